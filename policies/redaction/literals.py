"""JSON within a string, to its last reader: where its literals stand, what they say, and how to put others there.

A text is changed only in the stretches that are replaced: spaces, escapes and numbers elsewhere stay as they were
spelled, so that what is unchanged keeps its bytes.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from policies.redaction.splice import Put, Spliced

DEEPEST = 8
"""Levels of JSON within JSON that are told apart; below, a text is a text."""

_OFTEN = 4096
"""Tokens between two looks at the time."""

_OPENS = re.compile(rb"[ \t\r\n]*[\[{]")
_TOKEN = re.compile(rb'"((?:[^"\\]++|\\.)*+)"|(-?[0-9][0-9.eE+-]*+)', re.DOTALL)
_ESCAPE = re.compile(
    rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([\"\\/bfnrt]))"
)
_BACKSLASH = 92
_SECOND = tuple(b'"\\/bfnrtu'[i : i + 1] for i in range(9))
_CHARS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_ANY_DEPTH = re.compile(rb"\\+(?:u([0-9a-fA-F]{4})|([nrtbf\"'/]))?")


class Stretch(NamedTuple):
    """A stretch of a text that is to be replaced.

    Attributes:
        start, end: byte offsets.
        label: whose it is; equal ones belong together.
    """

    start: int
    end: int
    label: int


class Fitted(NamedTuple):
    """A stretch that can be replaced without breaking the JSON around it.

    Attributes:
        start, end: byte offsets into the text.
        label: of the stretch that it is of.
        value: what its last reader sees there.
        quote: stands before and after what is put there: a string in the place of a number; else empty.
    """

    start: int
    end: int
    label: int
    value: bytes
    quote: bytes = b""


def is_json(text: bytes) -> bool:
    """Whether a text is a JSON object or array."""
    if _OPENS.match(text) is None:
        return False
    try:
        json.loads(text.decode())
    except (ValueError, RecursionError):
        return False
    return True


def decoded(content: bytes) -> Spliced:
    """What the content of a literal says, without its quotes. Half of a surrogate pair stays an escape."""
    if b"\\" not in content:
        return Spliced(content, ())
    puts = []
    for match in _ESCAPE.finditer(content):
        high, low, unit, sign = match.groups()
        if sign:
            text = _CHARS.get(sign, sign)
        elif high:
            text = chr(0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF)).encode()
        elif 0xD800 <= (code := int(unit, 16)) < 0xE000:
            continue
        else:
            text = chr(code).encode()
        puts.append(Put(match.start(), match.end(), text))
    return Spliced(content, puts)


def encoded(text: bytes) -> bytes:
    """A text as the content of a literal."""
    return json.dumps(text.decode(), ensure_ascii=False)[1:-1].encode()


def read(value: bytes) -> bytes:
    """A value without escapes, however deep: one spelling for what stands escaped in one place and plain in another."""
    if b"\\" not in value:
        return value

    def char(match: re.Match[bytes]) -> bytes:
        if match[1]:
            return chr(int(match[1], 16)).encode("utf-8", "surrogatepass")
        return _CHARS.get(match[2], match[2]) if match[2] else b"\\"

    return _ANY_DEPTH.sub(char, value)


def fit(
    text: bytes, stretches: list[Stretch], depth: int = 0, look: Callable[[], None] = lambda: None
) -> Iterator[Fitted]:
    """What can be replaced of each stretch, in order: in JSON, parts of literals and whole numbers; else all of it.

    Args:
        stretches: in order, without overlap.
        look: called again and again; what it raises ends it.
    """
    if depth >= DEEPEST or not is_json(text):
        whole = (_whole(text, one) for one in stretches)
        yield from (Fitted(*one, text[one.start : one.end]) for one in whole if one.start < one.end)
        return
    for match, inside in _tokens(text, stretches, look):
        start, end = match.span(1)
        if start < 0:
            begin, stop, label = inside[0]
            # Each number of a stretch becomes what stands for all of it: of the bytes of a key none is told apart.
            yield Fitted(*match.span(), label, text[begin:stop], b'"')
            continue
        said = decoded(text[start:end])
        clipped: list[Stretch] = []
        for one in inside:
            begin, stop = said.forward(max(one.start, start) - start, min(one.end, end) - start)
            if begin < stop and (not clipped or begin >= clipped[-1].end):
                clipped.append(Stretch(begin, stop, one.label))
        for inner in fit(said.text, clipped, depth + 1, look):
            begin, stop = said.origin(inner.start, inner.end)
            yield inner._replace(start=begin + start, end=stop + start, quote=encoded(inner.quote))


def _whole(text: bytes, stretch: Stretch) -> Stretch:
    """A stretch that cuts no escape in two: one may stand before the quote that ends a literal of JSON in this text."""
    start, end, label = stretch
    while end > start and text[end - 1] == _BACKSLASH:
        end -= 1
    before = start
    while before and text[before - 1] == _BACKSLASH:
        before -= 1
    # What an odd number of backslashes stands before is the second half of an escape.
    half = (start - before) % 2 and text[start : start + 1] in _SECOND
    return Stretch(start - 1 if half else start, end, label)


def _tokens(
    text: bytes, stretches: list[Stretch], look: Callable[[], None]
) -> Iterator[tuple[re.Match[bytes], list[Stretch]]]:
    """Literals and numbers, each with the stretches that it shares bytes with."""
    at = 0
    for number, match in enumerate(_TOKEN.finditer(text)):
        if number % _OFTEN == 0:
            look()
        start, end = match.span(1) if match.start(1) >= 0 else match.span()
        while at < len(stretches) and stretches[at].end <= start:
            at += 1
        if at == len(stretches):
            return
        inside, beyond = [], at
        while beyond < len(stretches) and stretches[beyond].start < end:
            inside.append(stretches[beyond])
            beyond += 1
        if inside and start < end:
            yield match, inside


def replaced(text: bytes, wanted: Callable[[bytes], list[Put]]) -> bytes:
    """A JSON text in which is replaced what `wanted` says of each literal, as its last reader sees it."""
    return Spliced(text, _puts(text, wanted, 0)).text


def _puts(text: bytes, wanted: Callable[[bytes], list[Put]], depth: int) -> list[Put]:
    if depth >= DEEPEST or not is_json(text):
        return wanted(text) if depth else []
    puts = []
    for match in _TOKEN.finditer(text):
        begin, end = match.span(1)
        if begin < 0:
            continue
        said = decoded(text[begin:end])
        for put in _puts(said.text, wanted, depth + 1):
            start, stop = said.origin(put.start, put.end)
            puts.append(Put(begin + start, begin + stop, encoded(put.text)))
    return puts
