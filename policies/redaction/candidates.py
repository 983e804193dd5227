"""What several layers find in one text, and what it is where they overlap."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from policies.redaction.pseudonym import REVERSIBLE

_BETWEEN = b"\n\x1e\n"
"""Between two texts that are looked at together: no rule sees across."""


class Candidate(NamedTuple):
    """A stretch of a text that may have to go.

    Attributes:
        start, end: byte offsets.
        kind, rule: as in `Span`.
        exact: the value that is known by name; None where a rule found it.
    """

    start: int
    end: int
    kind: str
    rule: str
    exact: str | None = None


class Text(NamedTuple):
    """One of several texts that stand in one.

    Attributes:
        start, end: where, in bytes.
        number: of the text.
    """

    start: int
    end: int
    number: int


def together(texts: Iterable[tuple[int, bytes, bytes, bool]]) -> tuple[bytes, list[Text]]:
    """Texts in one, each behind the name of what holds it; and where each begins and ends, by its number.

    Args:
        texts: number, text, name, and whether it stands without quotes there.
    """
    parts: list[bytes] = []
    places: list[Text] = []
    at = 0
    for number, text, name, is_bare in texts:
        quote = b"" if is_bare else b'"'
        before, after = (b'"' + name + b'": ' + quote, quote + _BETWEEN) if name else (b"", _BETWEEN)
        parts += (before, text, after)
        places.append(Text(at + len(before), at + len(before) + len(text), number))
        at += len(before) + len(text) + len(after)
    return b"".join(parts), places


def shared(texts: Sequence[Text], found: Iterable[Candidate]) -> Iterator[tuple[int, Candidate]]:
    """Each find, as a part of each text that it shares bytes with, and which text that is; both in order."""
    at = 0
    for one in found:
        while at < len(texts) and texts[at].end <= one.start:
            at += 1
        beyond = at
        while beyond < len(texts) and texts[beyond].start < one.end:
            start, end, number = texts[beyond]
            beyond += 1
            begin, stop = max(one.start, start) - start, min(one.end, end) - start
            if begin < stop:
                yield number, one._replace(start=begin, end=stop)


def without(start: int, end: int, marks: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is left of a stretch beside others, which are in order."""
    at = bisect_right(marks, start, key=lambda mark: mark[1])
    while at < len(marks) and marks[at][0] < end:
        first, last = marks[at]
        at += 1
        if start < first:
            yield start, first
        start = last
    if start < end:
        yield start, end


def groups(candidates: Iterable[Candidate]) -> list[list[Candidate]]:
    """Candidates that overlap, together."""
    found: list[list[Candidate]] = []
    last = 0
    for one in sorted(candidates, key=lambda one: (one.start, -one.end, one.exact is None, one.kind, one.rule)):
        if found and one.start < last:
            found[-1].append(one)
        else:
            found.append([one])
        last = max(last, one.end)
    return found


def foremost(group: list[Candidate]) -> Candidate:
    """The one whose kind stands: a secret before what may come back, an exact value, the longest."""
    secrets = [one for one in group if one.kind not in REVERSIBLE] or group
    return min(secrets, key=lambda one: (one.exact is None, one.start - one.end))
