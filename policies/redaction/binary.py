"""Images, files and data: URLs: what a request carries that is no text."""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from policies.redaction.patterns import compiled
from policies.redaction.places import step
from schemas.errors import LedgerError

_HEAD = re.compile(r"data:[A-Za-z0-9.+/-]{0,127}(?:;[A-Za-z0-9_.=-]{1,127}){0,4};base64,")
_URL = re.compile(rb"(?i)data:[A-Za-z0-9.+/-]{0,127}(?:;[A-Za-z0-9_.=-]{1,127}){0,4};base64,[A-Za-z0-9+/=_-]{64,}")
_SIGN = b"base64,"
# What begins as one of these is no text that somebody wrote in base64: PNG, JPEG, GIF, WebP and WAV, PDF, ZIP, MP3.
_MAGIC = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"RIFF",
    b"%PDF-",
    b"PK\x03\x04",
    b"ID3",
    b"\xff\xfb",
)
_SHORTEST = 16
_WRITTEN = bytes(range(32, 127)) + b"\t\r\n"
# How such content begins in base64, other archives, sounds and films too: a kibibyte of it is no word.
_BEGINS = compiled(
    "(?:^|[^0-9A-Za-z+/])(?:iVBORw0KGgo|/9j/|R0lGOD[dl]h|UklGR|JVBERi0|UEsDB|SUQz|H4sIA|N3q8ryc|KLUv/|Qlpo"
    "|/Td6WFo|SUkqA|TU0AK|T2dnU[w-z]|ZkxhQ[w-z]|AAAA[A-Za-z0-9+/]{3}mdHlw)",
    "begins",
)
_BARE = re.compile(rb"(?:[0-9A-Za-z+/]|\r?\n|(?:\\+r)?\\+n){1366,}+={0,2}")
# Members that carry such content, and the kind that stands for it.
_CARRIERS = {"image_url": "image", "file_data": "file", "url": "file"}
_ITEMS = {"image_generation_call": ("result", "image")}
# Whose names say it, whatever they hold.
_NAMED = {"input_audio": "audio", "b64_json": "image", "partial_images": "image", "partial_image_b64": "image"}
_SOUNDS = ("mp3", "wav")
_PARTS = ("input_image", "input_file")


class Blocked(LedgerError):
    """The profile lets no such content leave.

    Attributes:
        place: where it is.
    """

    def __init__(self, place: str, kind: str) -> None:
        super().__init__(
            f"{place}: the redaction profile lets no {kind} leave",
            hint="send its text, or use a profile whose `binary` is digest or pass",
        )
        self.place = place


class Carried(NamedTuple):
    """What a data: URL carries.

    Attributes:
        head: all before the content.
        inner: the content where it is a text; None where it is an image or a file of a known form.
    """

    head: str
    inner: bytes | None


class Replaced(NamedTuple):
    """Content in whose place something stands.

    Attributes:
        place: where it was.
        kind: `image`, `file` or `audio`.
    """

    place: str
    kind: str


def carried(url: str) -> Carried | None:
    """What a data: URL carries; None where it is to be read as it stands: what has no known form might be text."""
    head = _HEAD.match(url)
    if head is None:
        return None
    try:
        content = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(content) >= _SHORTEST and content.startswith(_MAGIC) and not _is_written(content):
        return Carried(head[0], None)
    try:
        content.decode()
    except UnicodeDecodeError:
        return None
    return Carried(head[0], content) if base64.b64encode(content).decode() == url[head.end() :] else None


def _is_written(content: bytes) -> bool:
    """Whether content is mostly characters that somebody wrote: what begins as a picture need not be one."""
    return len(content.translate(None, _WRITTEN)) * 10 < len(content) * 3


def urls(text: bytes) -> list[tuple[int, int]]:
    """Where data: URLs stand in a text, and bare base64 of pictures, archives and such; in order, without overlap."""
    found = [match.span() for match in _URL.finditer(text)] if _SIGN in text.lower() else []
    at = 0
    while (begin := _BEGINS.search(text, at)) is not None:
        start, at = begin.start(), begin.end()
        start += text[start] not in b"/ABCDEFGHIJKLMNOPQRSTUVWXYZi"
        if (run := _BARE.match(text, start)) is not None:
            at = run.end()
            if not any(first < at and start < last for first, last in found):
                found.append((start, at))
    return sorted(found)


def replaced(
    value: Any, how: Literal["block", "digest"], mark: Callable[[str, bytes], str], at: str
) -> tuple[Any, list[Replaced]]:
    """An item with a text in the place of each part that carries such content.

    Args:
        mark: makes what stands for content of a kind.
        at: where the item is, for the message.

    Raises:
        Blocked: `how` is block; or it stands where no text can.
    """
    found: list[Replaced] = []

    def walk(inner: Any, place: str, *, part: bool) -> Any:
        if isinstance(inner, list):
            parts = [walk(member, f"{place}[{index}]", part=True) for index, member in enumerate(inner)]
            return inner if all(new is old for new, old in zip(parts, inner, strict=True)) else parts
        if not isinstance(inner, dict):
            return inner
        if (carrier := _carrier(inner)) is not None:
            name, kind = carrier
            if how == "block" or not part or inner.get("type") not in _PARTS:
                raise Blocked(f"{at}{place}.{name}", kind)
            found.append(Replaced(f"{place}.{name}", kind))
            return {"type": "input_text", "text": mark(kind, str(inner[name]).encode())}
        members = {
            name: walk(member, place + step(name, index), part=False)
            for index, (name, member) in enumerate(inner.items())
        }
        return inner if all(members[name] is inner[name] for name in inner) else members

    return walk(value, "", part=False), found


def _carrier(value: dict[str, Any]) -> tuple[str, str] | None:
    """The member of an object that carries content, and its kind."""
    for name, kind in _CARRIERS.items():
        inner = value.get(name)
        if isinstance(inner, str) and inner and (name == "file_data" or inner[:5].lower() == "data:"):
            return name, kind
    for name, kind in _NAMED.items():
        # A tool's `partial_images` is a number of them.
        if value.get(name) and isinstance(value[name], str | list | dict):
            return name, kind
    name, kind = _ITEMS.get(str(value.get("type")), ("", ""))
    if name and value.get(name):
        return name, kind
    if value.get("format") in _SOUNDS and isinstance(value.get("data"), str):
        return "data", "audio"
    return None
