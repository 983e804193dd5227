"""A text as its last reader sees it, for values that are known by name: escapes spelled out, bytes read, lines joined.

Each view is whole or a part of the text, with the way back. RE2 tells, in one pass, whether there is anything to see.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from policies.redaction.patterns import Which, compiled
from policies.redaction.splice import Put, Spliced

_OFTEN = 4096
"""Escapes between two looks at the time."""

_X = "[0-9a-fA-F]"
_SIGNS = rf"\\+(?:x{_X}{{2}}|u\{{|[0-7]{{3}}|/|u%s)|%%{_X}{{2}}|&(?:#|amp;|lt;|gt;|quot;|apos;)"
_ASCII = compiled(_SIGNS % f"00[2-7]{_X}", "escapes")
_ANY = compiled(_SIGNS % f"{_X}{{4}}", "escapes beyond ASCII")
_SLASHED = rb"u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\}|x([0-9a-fA-F]{2})|([0-3]?[0-7]{2})"
_OTHER = rb"|%(?:25)*([0-9a-fA-F]{2})|&(?:amp;)*(?:#([0-9]{1,7})|#[xX]([0-9a-fA-F]{1,6})|(amp|lt|gt|quot|apos));?"
_ESCAPE = re.compile(rb"\\+(?:" + _SLASHED + rb"|/)" + _OTHER)
_ONCE = re.compile(rb"\\(?:" + _SLASHED + rb"|([nrtbf\"'/\\]))" + _OTHER)
_EVERY = re.compile(rb"\\+(?:" + _SLASHED + rb"|([nrtbf\"'/]))?" + _OTHER)
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}
_ENTITIES = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}

# Eight bytes and more, as numbers or pairs of digits; what stands between them may break the line.
_GAP = r"(?:\s|\\+[nrt]|[,;:|-]|[\"'`+])"
_LISTED = rf"(?:[0-9]{{1,3}}{_GAP}+){{7}}[0-9]|(?:{_X}{{2}}{_GAP}+(?:0x)?){{7}}{_X}{{2}}"
_LIST = compiled(_LISTED, "list of bytes")
_NUMBERS = 1 << 15
"""Of a list, in one part."""

_NUMBER = re.compile(rb"(?<![0-9])(0|[1-9][0-9]{0,2})(?![0-9])")
_PAIR = re.compile(rb"(?<![0-9a-fA-F])(?:0[xX])?([0-9a-fA-F]{2})(?![0-9a-fA-F])")
_GAPS = re.compile(rb"(?:[ \t\r\n]|\\+[nrt]|[,;:|\"'`+-])*+")

# A line of xxd, hexdump -C or od: an offset, then bytes; what they spell may stand behind.
_GROUP = rf"(?:{_X}{{2}}){{1,2}}"
_DUMP = rf"{_X}{{4,16}}:? {{1,4}}{_GROUP}(?: {{1,2}}{_GROUP}){{3,}}"
_DUMPED = compiled(_DUMP, "dump")
_DUMP_LINE = re.compile(
    rb"[^\n]{0,24}?(?<![0-9a-fA-F])[0-9a-fA-F]{4,16}:? {1,4}"
    rb"((?:(?:[0-9a-fA-F]{4} ){1,7}|(?:[0-9a-fA-F]{2} {1,2}){0,15})[0-9a-fA-F]{2,4})(?![0-9a-fA-F])"
)
_LINE_END = re.compile(rb"\r?\n|(?:\\+r)?\\+n")
_BYTE = re.compile(rb"[0-9a-fA-F]{2}")

_HEX = compiled(f"{_X}{{16,}}", "hex")
# Of 16 digits in both cases, 6 stand on one side of where the case changes, or 5 without a case between.
_MIXED = "|".join(
    f"{_X}{{5}}[{a}][0-9]*[{b}]|[{a}][0-9]{{5,}}[{b}]|[{a}][0-9]*[{b}]{_X}{{5}}"
    for a, b in (("a-f", "A-F"), ("A-F", "a-f"))
)

_BREAK = rb"[ \t]*+(?:\\*+\r?\n|(?:\\+r)?\\+n)(?:[ \t]|\\+t)*+"
_MARKER = rb"(?:(?:[+>|#*-]|//)(?:[ \t]|\\+t)*+)?"
_QUOTE = rb"\\*[\"'`]"
_BREAKS = (
    (re.compile(_BREAK), b""),
    (re.compile(_BREAK), b" "),
    (re.compile(_BREAK + _MARKER), b""),
    (re.compile(_BREAK + _MARKER), b" "),
    (re.compile(b"=" + _BREAK), b""),
    (re.compile(_QUOTE + rb"[ \t]*+[+.&,]?(?:" + _BREAK + _MARKER + rb")?[ \t]*+[+.&]?[ \t]*+" + _QUOTE), b""),
)


# What there may be to see, in this order: escapes, lists, dumps, hex digits of mixed case.
_WHICH = {
    beyond: Which(_SIGNS % (f"{_X}{{4}}" if beyond else f"00[2-7]{_X}"), _LISTED, _DUMP, _MIXED)
    for beyond in (False, True)
}


class Part(NamedTuple):
    """A view of a part of a text.

    Attributes:
        at: where the part begins.
        view: of it.
        dump: whether what a line spells may stand once more at its end.
    """

    at: int
    view: Spliced
    dump: bool = False

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """The stretch of the whole text of which `view.text[start:end]` is made."""
        start, end = self.view.origin(start, end)
        if self.dump:
            stop = _LINE_END.search(self.view.before, end)
            end = stop.start() if stop else len(self.view.before)
        return start + self.at, end + self.at


def seen(data: bytes, *, beyond: bool, around: int, longest: int, look: Callable[[], None]) -> Iterator[Part]:
    """Every view of a text in which something else stands than in the text.

    Args:
        beyond, around: as `_spelled` takes them.
        longest: bytes of the longest value.
        look: called again and again; what it raises ends it.
    """
    there = _WHICH[beyond](data)
    if 0 in there:
        yield from _spelled(data, beyond=beyond, around=around, look=look)
    if 3 in there and (small := _lowered(data)) is not None:
        yield Part(0, small)
    if 1 in there:
        yield from _lists(data, longest)
    if 2 in there:
        yield from _dumps(data, longest)


def _spelled(data: bytes, *, beyond: bool, around: int, look: Callable[[], None]) -> Iterator[Part]:
    """A text without needless escapes, of JSON, C, URLs and HTML, at any depth.

    Args:
        beyond: whether characters beyond ASCII are of interest.
        around: bytes around each within which, in further views, those that JSON needs are spelled out too; 0: none.
        look: called again and again; what it raises ends it.
    """
    puts: list[Put] = []
    near: list[list[int]] = []
    last = 0
    for number, sign in enumerate((_ANY if beyond else _ASCII).finditer(data)):
        if number % _OFTEN == 0:
            look()
        start = sign.start()
        if start < last or (match := _ESCAPE.match(data, start)) is None:
            continue
        last, text = match.end(), _said(match)
        if near and start - around <= near[-1][1]:
            near[-1][1] = last + around
        else:
            near.append([max(start - around, 0), last + around])
        if text not in b'"\\' and (len(text) == 1 or beyond) and text >= b" ":
            puts.append(Put(start, last, text))
    if puts:
        yield Part(0, Spliced(data, puts))
    for start, end in near if around else ():
        for view in _bare(data[start:end], look):
            yield Part(start, view)


def _bare(part: bytes, look: Callable[[], None]) -> Iterator[Spliced]:
    """A part of a text without any escapes: of one level, and of all, which a backslash of its own does not outlast."""
    for pattern in (_ONCE, _EVERY):
        puts = []
        for number, match in enumerate(pattern.finditer(part)):
            if number % _OFTEN == 0:
                look()
            puts.append(Put(*match.span(), _said(match, every=True)))
        yield Spliced(part, puts)


def _said(match: re.Match[bytes], *, every: bool = False) -> bytes:
    """What an escape stands for; of half a surrogate pair, nothing else than it."""
    unit, point, byte, octal, *letter, percent, decimal, hexadecimal, entity = match.groups()
    if found := byte or percent:
        return bytes((int(found, 16),))
    if octal:
        return bytes((int(octal, 8),))
    if entity:
        return _ENTITIES[entity]
    if every and letter[0]:
        return _LETTERS.get(letter[0], letter[0])
    if unit or point or decimal or hexadecimal:
        code = int(decimal) if decimal else int(unit or point or hexadecimal, 16)
        return match[0] if code > 0x10FFFF or 0xD800 <= code < 0xE000 else chr(code).encode()
    return b"\\" if every else b"/"


def _lists(data: bytes, longest: int) -> Iterator[Part]:
    """What lists of numbers and of pairs of hex digits spell.

    Args:
        longest: bytes of the longest value: as far do the parts of a long list overlap.
    """
    at = 0
    while (match := _LIST.search(data, at)) is not None:
        at = match.end()
        for each, radix in ((_NUMBER, 10), (_PAIR, 16)):
            start = match.start()
            while len(puts := _listed(data, start, each, radix, longest + _NUMBERS)) >= 8:
                end = puts[-1].end
                yield Part(start, Spliced(data[start : start + end], puts))
                at = max(at, start + end)
                if len(puts) < longest + _NUMBERS:
                    break
                start = _past(data, start + puts[_NUMBERS - 1].end)


def _dumps(data: bytes, longest: int) -> Iterator[Part]:
    """What dumps of bytes spell."""
    at = 0
    while (match := _DUMPED.search(data, at)) is not None:
        at = match.start()
        for part, end in _dumped(data, at, longest):
            at = max(at, end)
            yield part
        at = max(at, match.end())


def _dumped(data: bytes, at: int, longest: int) -> Iterator[tuple[Part, int]]:
    """The bytes of a dump's lines from one on, in parts; and where each part ends."""
    lines: list[tuple[int, list[Put]]] = []
    count = 0
    while (line := _DUMP_LINE.match(data, at)) is not None:
        # Offsets into the text; a part's own begin at its first line.
        puts = [Put(*pair.span(), bytes((int(pair[0], 16),))) for pair in _BYTE.finditer(data, *line.span(1))]
        lines.append((at, puts))
        count += len(puts)
        stop = _LINE_END.search(data, line.end())
        at = stop.end() if stop else len(data)
        if count > _NUMBERS + longest:
            yield _part(data, lines, at), at
            while count - len(lines[0][1]) > longest:
                count -= len(lines.pop(0)[1])
    if lines:
        yield _part(data, lines, at), at


def _part(data: bytes, lines: list[tuple[int, list[Put]]], end: int) -> Part:
    begin = lines[0][0]
    puts = [Put(start - begin, stop - begin, text) for _, line in lines for start, stop, text in line]
    return Part(begin, _only(data[begin:end], puts), dump=True)


def _past(data: bytes, at: int) -> int:
    """Where what stands between the bytes of a list ends."""
    gap = _GAPS.match(data, at)
    return gap.end() if gap is not None else at


def _listed(data: bytes, start: int, each: re.Pattern[bytes], radix: int, most: int) -> list[Put]:
    """The bytes of a list from its start on, as far as it goes; each with what stands before it."""
    puts: list[Put] = []
    at = last = start
    while (match := each.match(data, at)) is not None and (number := int(match[1], radix)) < 256 and len(puts) < most:
        puts.append(Put(last - start, match.end() - start, bytes((number,))))
        last = match.end()
        at = _past(data, last)
        if at == last:
            break
    return puts


def _only(data: bytes, puts: list[Put]) -> Spliced:
    """What is put, and nothing of what stands between."""
    filled, last = [], 0
    for start, end, text in puts:
        filled += [Put(last, start, b""), Put(start, end, text)]
        last = end
    return Spliced(data, [*filled, Put(last, len(data), b"")])


def _lowered(data: bytes) -> Spliced | None:
    """A text whose hex digits of mixed case are all small; None where there are none."""
    puts = []
    for match in _HEX.finditer(data):
        run = match[0]
        if run != (small := run.lower()) and run != run.upper():
            puts.append(Put(*match.span(), small))
    return Spliced(data, puts) if puts else None


def joined(part: bytes) -> Iterator[Spliced]:
    """A part of a text with its lines, or its neighbouring string literals, put together."""
    for pattern, between in _BREAKS:
        puts = [Put(*match.span(), between) for match in pattern.finditer(part)]
        if puts:
            yield Spliced(part, puts)
