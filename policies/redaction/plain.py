"""A stretch of text as its last reader sees it, with the way back to the bytes as they stand.

What is JSON within JSON within a tool's output shows a newline as `\\\\n`, a quote as `\\\\\\"`, an ampersand as
`\\u0026`, and a URL shows an `@` as `%40`. Detectors see both the bytes and this spelling of them.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from typing import NamedTuple, Protocol

from policies.redaction.patterns import compiled

_ESCAPE = re.compile(
    rb"\\+(?:u([0-9a-fA-F]{4})|([nrt\"'/]))?|%([2-7][0-9a-fA-F])"
    rb"|&(?:(amp|quot|apos|lt|gt)|#(39|34|47|61|38)|#x(2[0-9a-fA-F]|3[dD]));"
)
# RE2 tells in a tenth of the time that there is none: most percent signs and ampersands are nothing of the kind.
_ANY = compiled(
    r"\\(?:u[0-9a-fA-F]{4}|[nrt\"'/\\])|%[2-7][0-9a-fA-F]|&(?:amp|quot|apos|lt|gt|#x?[0-9a-fA-F]{2});", "escape"
)
_LETTER = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_ENTITY = {b"amp": b"&", b"quot": b'"', b"apos": b"'", b"lt": b"<", b"gt": b">"}

# How a long string is broken over lines: in mail and terminals, by a backslash, in pieces of source code, in a diff.
_WRAP = re.compile(
    rb"[\"'`]?[ \t]{0,8}[+.&\\]?[ \t]{0,8}\\?\r?\n[ \t]{0,40}[+.&>|*#-]?[ \t]{0,40}[\"'`]?"
    rb"|[\"'`][ \t]{0,4}\+?[ \t]{0,4}[\"'`]"
)

# What stands before each line of a diff, a listing with numbers, a log with times, a quotation.
_LEAD = (
    r"(?m)^[ \t]{0,8}(?:"
    r"\[?[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}[^\s]{0,16}(?:[ \t]{1,2}[^\s]{1,40}[:|\]])?[ \t]?"
    r"|[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [^\s]{1,60} [^\s]{1,40}: "
    r"|[+<>|#*][ \t]?|-[ \t]|//[ \t]?|[0-9]{1,6}[:|\t-][ \t]?|[^\s:\"']{1,80}:[0-9]{1,6}[:-][ \t]?"
    r"|[0-9A-Za-z_.-]{1,40}[ \t]{1,12}\|[ \t])"
)
_LED = compiled(_LEAD, "lead")


_SEGMENT = 1 << 16
"""Bytes of a text that are spelled out in one go, for all windows within them."""


class View(Protocol):
    """A text in another spelling."""

    @property
    def text(self) -> bytes:
        """The spelling."""

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """The stretch of the origin that is spelled `text[start:end]`; an escape is taken whole or not at all."""


class Plain(NamedTuple):
    """A text, spelled out.

    Attributes:
        text: the spelling.
        before: for each place where it differs: where that begins in the origin.
        after: for each place where it differs: the offset in `text` just after what was put there.
        put: as many bytes were put there.
        shift: as many bytes does the origin have more, from that offset on.
    """

    text: bytes
    before: tuple[int, ...]
    after: tuple[int, ...]
    put: tuple[int, ...]
    shift: tuple[int, ...]

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """The stretch of the origin that is spelled `text[start:end]`; an escape is taken whole or not at all."""
        return self._place(start)[0], self._place(end - 1)[1]

    def forward(self, start: int, end: int) -> tuple[int, int]:
        """The stretch of the text that spells a stretch of the origin; an escape is taken whole."""
        first, last = bisect_right(self.before, start), bisect_left(self.before, end)
        return self._spelled(first, start, last=False), self._spelled(last, end, last=True)

    def _spelled(self, index: int, at: int, *, last: bool) -> int:
        """Where a place of the origin is spelled, before which so many places that differ begin."""
        if not index:
            return at
        index -= 1
        stop = self.after[index]
        if at >= stop + self.shift[index]:
            return at - self.shift[index]
        return stop if last else stop - self.put[index]

    def _place(self, at: int) -> tuple[int, int]:
        """Where what a byte of the text is spelled from begins and ends in the origin."""
        index = bisect_right(self.after, at)
        before = self.shift[index - 1] if index else 0
        if index < len(self.after) and at >= self.after[index] - self.put[index]:
            return self.after[index] - self.put[index] + before, self.after[index] + self.shift[index]
        return at + before, at + before + 1


class Window(NamedTuple):
    """What a stretch of a text is in its spelling.

    Attributes:
        text: the spelling.
        whole: in which it stands.
        at: where there.
        shift: how much later the origin's stretch begins than what `whole` spells.
    """

    text: bytes
    whole: Plain
    at: int
    shift: int

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """See `View`."""
        start, end = self.whole.origin(start + self.at, end + self.at)
        return max(start - self.shift, 0), end - self.shift


class Spellings:
    """A text, spelled out where it is looked at, each part once.

    Args:
        data: the text.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._segments: dict[int, Plain | None] = {}

    def window(self, start: int, end: int) -> View | None:
        """A stretch of it; None where it holds no escape."""
        number = start // _SEGMENT
        first, last = self._cut(number), self._cut(number + 1)
        if not first <= start <= end <= last:
            return plain(self._data[start:end])
        if number not in self._segments:
            self._segments[number] = plain(self._data[first:last])
        whole = self._segments[number]
        if whole is None:
            return None
        begin, stop = whole.forward(start - first, end - first)
        text = whole.text[begin:stop]
        return Window(text, whole, begin, start - first) if text != self._data[start:end] else None

    def _cut(self, number: int) -> int:
        """Where a segment begins: behind a space, where no escape is cut in two, if there is one near."""
        at = number * _SEGMENT
        if not number or at >= len(self._data):
            return min(at, len(self._data))
        space = self._data.find(b" ", at, at + 256)
        return space + 1 if space >= 0 else at


def plain(text: bytes) -> Plain | None:
    """A text without escapes of JSON, URLs and HTML, at any depth of backslashes; None where it has none."""
    first = _ANY.search(text)
    if first is None:
        return None
    known: dict[bytes, bytes] = {}
    changes = []
    for match in _ESCAPE.finditer(text, first.start()):
        if (put := known.get(sign := match[0])) is None:
            put = known[sign] = _spelled(match)
        changes.append((*match.span(), put))
    return _replaced(text, changes)


def bare(text: bytes) -> Plain | None:
    """A text whose lines have lost what a diff, a log or a listing puts before each; None where there is nothing."""
    return _replaced(text, ((*match.span(), b"") for match in _LED.finditer(text)))


def joined(text: bytes, heads: Collection[bytes]) -> Plain | None:
    """A text whose lines, and neighbouring string literals, are put together; None where there is nothing to join.

    Args:
        heads: in lower case; what begins with one of them stays apart from what stands before.
    """
    if b"\n" not in text and b'"' not in text and b"'" not in text:
        return None
    heads = tuple(heads)
    longest = max(map(len, heads), default=0)

    def nothing(match: re.Match[bytes]) -> bytes:
        end = match.end()
        return match[0] if text[end : end + longest].lower().startswith(heads) else b""

    return _replaced(text, ((*match.span(), nothing(match)) for match in _WRAP.finditer(text)))


def _replaced(text: bytes, changes: Iterable[tuple[int, int, bytes]]) -> Plain | None:
    parts: list[bytes] = []
    before: list[int] = []
    after: list[int] = []
    puts: list[int] = []
    shift: list[int] = []
    last = length = lost = 0
    for start, end, put in changes:
        if put == text[start:end]:
            continue
        parts += (text[last:start], put)
        length += start - last + len(put)
        lost += end - start - len(put)
        before.append(start)
        after.append(length)
        puts.append(len(put))
        shift.append(lost)
        last = end
    if not after:
        return None
    parts.append(text[last:])
    return Plain(b"".join(parts), tuple(before), tuple(after), tuple(puts), tuple(shift))


def _spelled(match: re.Match[bytes]) -> bytes:
    """What an escape stands for."""
    unit, letter, percent, entity, decimal, hexadecimal = match.groups()
    if letter:
        return _LETTER.get(letter, letter)
    if unit:
        code = int(unit, 16)
        # Half of a pair says nothing alone, and no secret begins with one.
        return match[0] if 0xD800 <= code < 0xE000 or code < 9 else chr(code).encode()
    if found := percent or hexadecimal:
        return bytes((int(found, 16),))
    if entity:
        return _ENTITY[entity]
    return bytes((int(decimal),)) if decimal else b"\\"
