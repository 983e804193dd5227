"""What is encoded within a text, one level: base64 (of text, of UTF-16, of gzip), hex, gzip.

What holds a secret goes whole: half of an encoding is none.
"""

import base64
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from policies.redaction.patterns import Match, compiled

MAX_UNPACKED = 1 << 20
"""Bytes that one compressed stretch may unpack to; the rest of it is not looked at."""

_SHIFTED = 4096
_SHORTEST = 32
_HEAD = compiled(f"[0-9A-Za-z+/_-]{{{_SHORTEST}}}", "head")
_RUN = compiled(r"[0-9A-Za-z+/_-]{32,}(?:(?:\r?\n|\\n)[0-9A-Za-z+/_-]{32,})*={0,2}", "run")
_HEX = compiled(r"(?:0x)?((?:[0-9a-f]{2}){16,}|(?:[0-9A-F]{2}){16,})", "hex")
# Chance does not write sixteen characters in a row; where none stand, nobody wrote a secret.
_WRITTEN = compiled(r"[\t\n\r -~]{16,}", "written")
# What stands in a run somewhere if it spells sixteen written characters, in ASCII or UTF-16, or begins as gzip and zlib
# do: four whole groups of base64, or as many pairs of digits. One pass leaves out digests, ids and most of a picture.
_SIGN = "[0-9A-Za-z+/_-]"
_MAYBE = compiled(
    f"(?:[CDI-Za-f][0-3AC-HQS-Xgi-nwyz][014589ABEFIJMNQRUVYZcdghklopstwx]{_SIGN}){{4}}"
    "|(?:[2-7][0-9a-fA-F]|0[9aAdD]){16}|(?:[2-7][0-9a-fA-F]00){8}"
    f"|(?:{_SIGN}[AQgw][AB]{_SIGN}A[AC-H]{_SIGN}A){{2}}|(?:H4sI|eJ[w-z]|1[fF]8[bB]08|789[cC]){_SIGN}{{25}}",
    "maybe",
)
_SIGNS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/_-\\\r\n"
_GZIP = b"\x1f\x8b\x08"
_URLSAFE = bytes.maketrans(b"-_", b"+/")


class Inner(NamedTuple):
    """A stretch, decoded.

    Attributes:
        start, end: of the stretch.
        text: what it stands for.
    """

    start: int
    end: int
    text: bytes


def decoded(text: bytes) -> Iterator[Inner]:
    """All stretches that may be an encoding of something, with what they would stand for."""
    for match in _runs(text):
        start, end = match.span()
        run = match[0]
        if (inner := _HEX.fullmatch(run)) is not None:
            yield from _texts(start, end, bytes.fromhex(inner[1].decode()))
            continue
        run = run.replace(b"\\n", b"").replace(b"\n", b"").replace(b"\r", b"").rstrip(b"=").translate(_URLSAFE)
        # Where a name or path stands right before it, the first sign of the encoding is not the run's.
        for shift in range(4 if len(run) <= _SHIFTED else 1):
            part = run[shift:]
            yield from _texts(start, end, base64.b64decode(part[: len(part) // 4 * 4] + _rest(part)))
    at = text.find(_GZIP)
    while at >= 0:
        yield from _unpacked(at, len(text), text[at:])
        at = text.find(_GZIP, at + MAX_UNPACKED)


def _runs(text: bytes) -> Iterator[Match]:
    """The runs in which something may be written."""
    at = 0
    while (hit := _MAYBE.search(text, at)) is not None:
        # The run began somewhere before, in this line or an earlier one; no further on is looked than it takes to tell.
        at += len(text[at : hit.start()].rstrip(_SIGNS))
        limit = min(hit.start() + _SHORTEST, len(text))
        run = None
        while (head := _HEAD.search(text, at, limit)) is not None:
            run = _RUN.match(text, head.start())
            if run is None or run.end() > hit.start():
                break
            at = run.end()
        if run is not None and run.end() > hit.start():
            yield run
            at = run.end()
        at = max(at, hit.end())


def _rest(part: bytes) -> bytes:
    """The last signs of base64, complete; one alone stands for nothing."""
    rest = part[len(part) // 4 * 4 :]
    return rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""


def _texts(start: int, end: int, text: bytes) -> Iterator[Inner]:
    if text[:3] == _GZIP or text[:2] == b"\x78\x9c":
        yield from _unpacked(start, end, text)
    elif text[1:2] == b"\0" and text.count(0) * 2 >= len(text) - 1:
        yield Inner(start, end, text[::2])
    elif _WRITTEN.search(text) is not None:
        yield Inner(start, end, text)


def _unpacked(start: int, end: int, text: bytes) -> Iterator[Inner]:
    try:
        yield Inner(start, end, zlib.decompressobj(wbits=47).decompress(text, MAX_UNPACKED))
    except zlib.error:
        yield Inner(start, end, text)
