"""How a value may be spelled: every text in which one that is known by name is looked for."""

import base64
import html
import json
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote, quote_plus

from schemas.errors import Malformed

SHORTEST = 8
"""Characters of the shortest value that is looked for: a shorter one would be found everywhere."""

_WITHIN = 4
"""Levels of JSON within JSON in which a value is looked for."""

_LINE = re.compile(r"[A-Za-z0-9+/=_-]{24,}")
_IN_SHELL = re.compile(r"([^\w@%+=:,./-])")
# What stands before each pair of digits, and between them.
_HEX: tuple[tuple[str, str], ...] = (
    ("", ""), ("", ":"), ("", " "), ("", "-"), ("%", ""), ("\\x", ""), ("\\\\x", ""),
    ("0x", ", "), ("0x", ","), ("0x", " "),
)  # fmt: skip


class Form(NamedTuple):
    """One spelling of a value.

    Attributes:
        left, right: how many characters beside it hold bits of the value and of its neighbours.
        wraps: whether it is looked for across line breaks too.
    """

    text: bytes
    value: str
    left: int = 0
    right: int = 0
    wraps: bool = False

    def __repr__(self) -> str:
        return f"Form({len(self.text)} bytes)"


def encoded(value: str, name: str) -> bytes:
    """A value in UTF-8.

    Raises:
        Malformed: it holds bytes that are none; names it.
    """
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise Malformed(f"{name}: the secret is not in UTF-8", hint="name a text, such as its base64") from None


def parts(value: str, name: str) -> Iterator[str]:
    """A value, and of a key in many lines each: a diff or an indented file shows these apart.

    Raises:
        Malformed: it holds bytes that are no UTF-8; names it.
    """
    encoded(value, name)
    value = value.strip("\r\n\t ")
    if len(value) >= SHORTEST:
        yield value
    lines = value.split("\n")
    for line in lines if len(lines) > 1 else ():
        if _LINE.fullmatch(text := line.strip()):
            yield text


def forms(value: str) -> Iterator[Form]:
    """Every spelling in which a value is looked for."""
    for text in _texts(value):
        yield Form(text.encode(), value)
    lines = [line.strip() for line in value.split("\n")]
    for whole in {value, "".join(lines), " ".join(lines)}:
        if len(whole) >= SHORTEST:
            yield from (
                Form(text.encode(), value, wraps=True) for text in (whole, _within(whole), _within(_within(whole)))
            )
    for spelled in (value, value.replace("\n", "\r\n"), value + "\n"):
        for encoding in ("utf-8", "utf-16-le"):
            yield from _base64(spelled.encode(encoding), value)
    for inner in list(_base64(value.encode(), value)):
        for outer in _base64(inner.text, value):
            yield outer._replace(left=3, right=3)
    yield from _base32(value.encode(), value)
    for case in ("02x", "02X"):
        pairs = [format(byte, case) for byte in value.encode()]
        for before, between in _HEX:
            plain = not before and not between
            yield Form(between.join(before + pair for pair in pairs).encode(), value, wraps=plain)
        for encoding in ("utf-16-le", "utf-16-be"):
            text = "".join(format(byte, case) for byte in value.encode(encoding))
            yield Form(text.encode(), value, wraps=True)


def _within(text: str) -> str:
    """A text as JSON holds it."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _texts(value: str) -> set[str]:
    """A value as it stands in texts of many kinds, and in JSON within JSON, with and without escapes beyond ASCII."""
    texts = {value, value.replace("\n", "\r\n"), value.replace("\n", "\\n")}
    texts |= {value.replace("'", instead) for instead in ("'\\''", "'\"'\"'", "\\'", "''")}
    texts |= {_IN_SHELL.sub(r"\\\1", value), re.sub(r'([$`"\\])', r"\\\1", value), shlex.quote(value)[1:-1]}
    texts |= {html.escape(value), html.escape(value, quote=False), html.escape(value).replace("&#x27;", "&#39;")}
    for text in (quote(value, safe=""), quote(value), quote_plus(value), quote(value, safe="!'()*-._~")):
        texts |= {text, re.sub("%..", lambda match: match[0].lower(), text), quote(text, safe="")}
    texts = {text for text in texts if len(text) >= len(value)}
    level = texts
    for _ in range(_WITHIN):
        level = {json.dumps(text, ensure_ascii=ascii)[1:-1] for text in level for ascii in (True, False)}
        texts = texts | level
    return texts


def _base64(data: bytes, value: str) -> Iterator[Form]:
    """The characters that only this data sets, in each of the three places where it may begin within a base64 text."""
    for shift, lead in ((0, 0), (1, 2), (2, 3)):
        spelled = base64.b64encode(b"\0" * shift + data)
        whole = (shift + len(data)) * 8 // 6
        left, right = int(shift > 0), int((shift + len(data)) % 3 > 0)
        text = spelled[lead:whole]
        yield Form(text, value, left, right, wraps=True)
        yield Form(text.translate(bytes.maketrans(b"+/", b"-_")), value, left, right, wraps=True)
        yield Form(text.replace(b"+", b"%2B").replace(b"/", b"%2F"), value, left, right)


def _base32(data: bytes, value: str) -> Iterator[Form]:
    """The same of base32, in each of five places, in capitals and small letters."""
    for shift in range(5):
        spelled = base64.b32encode(b"\0" * shift + data)
        text = spelled[-(-shift * 8 // 5) : (shift + len(data)) * 8 // 5]
        left, right = int(shift > 0), int((shift + len(data)) % 5 > 0)
        yield Form(text, value, left, right, wraps=True)
        yield Form(text.lower(), value, left, right, wraps=True)
