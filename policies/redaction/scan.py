"""All detectors over one text: what must not leave, as stretches that do not overlap.

Most text costs one pass of an automaton over all keywords. Around each keyword its detectors see a window, as it
stands and as its reader sees it (`plain`); windows that touch are one, so that no text makes more work than its length.
"""

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from ahocorasick_rs import BytesAhoCorasick, Implementation
from blake3 import blake3

from policies.redaction import commands, nested, pairs, records, structured
from policies.redaction.detector import Detector
from policies.redaction.patterns import compiled
from policies.redaction.plain import Spellings, View, bare, joined, plain
from policies.redaction.rules import PSEUDONYM, RuleSet
from policies.redaction.span import Span
from schemas.errors import LedgerError

VERSION = "3"
"""Of the detectors' code: raised with every change of what they find."""

REVERSIBLE = frozenset({"path", "user", "email"})
"""Kinds that are personal, not secret."""

MOST = 200_000
"""Finds in one text; what has more is no text that somebody wrote."""

_CHUNK = 1 << 16
_LARGEST = 1 << 18
_SHORTEST_REST = 8
_TAIL = compiled("[0-9A-Za-z+/=_-]*", "tail")


class OutOfTime(LedgerError):
    """A text could not be looked through in time; it must not leave."""


class TooMany(LedgerError):
    """A text holds more of what must not leave than anybody could look at."""


class Scanner:
    """Finds what must not leave.

    Args:
        rules: beside the structured formats, which are always looked for.
        kinds: that are looked for; None: all.

    Attributes:
        kinds: that may be found.
        version: of rules, kinds and code: BLAKE3, hex.
    """

    def __init__(self, rules: RuleSet, kinds: Collection[str] | None = None) -> None:
        known = (*structured.DETECTORS, *commands.DETECTORS, *rules.detectors)
        wanted = {kind for detector in known for kind in detector.kinds if kinds is None or kind in kinds}
        self.kinds = frozenset(wanted)
        named = " ".join(sorted(wanted))
        self.version = blake3(f"{VERSION} {rules.version} {named}".encode()).hexdigest()
        self._detectors = [detector for detector in known if wanted.intersection(detector.kinds)]
        self._detectors.append(pairs.named(self._told, tuple(sorted(wanted))))
        self._weights = {detector.id: detector.weight for detector in self._detectors}
        self._always = [detector for detector in self._detectors if not detector.keywords]
        by_keyword: dict[bytes, list[int]] = {}
        for index, detector in enumerate(self._detectors):
            for form in {form for word in detector.keywords for form in _escaped(word)}:
                by_keyword.setdefault(form, []).append(index)
        self._by_keyword = list(by_keyword.values())
        self._longest = max(map(len, by_keyword), default=0)
        self._keywords: Any = (
            BytesAhoCorasick(list(by_keyword), implementation=Implementation.DFA) if by_keyword else None
        )

    def find(self, data: bytes, late: Callable[[], bool] | None = None) -> list[Span]:
        """What stands in a text, sorted; stretches do not overlap, and none touches a pseudonym.

        Args:
            late: whether the time is up; asked again and again.

        Raises:
            OutOfTime: it is.
            TooMany: over `MOST` stretches.
        """
        found = self._surface(data, late)
        for inner in self._inner(data):
            _check(late)
            inside = [span for span in self._surface(inner.text, late) if span.kind not in REVERSIBLE]
            if inside:
                best = max(inside, key=lambda span: (self._weights[span.rule], span.end - span.start))
                found.add(Span(inner.start, inner.end, best.kind, best.rule))
        found = {span for span in found if not records.commitment(data, span.start, span.end)}
        return self._apart(found, _pseudonyms(data))

    def _inner(self, data: bytes) -> Iterator[nested.Inner]:
        """What is encoded within a text, also where its slashes are escaped."""
        yield from nested.decoded(data)
        if b"\\/" in data and (spelled := plain(data)) is not None:
            for inner in nested.decoded(spelled.text):
                start, end = spelled.origin(inner.start, inner.end)
                yield inner._replace(start=start, end=end)

    def _told(self, line: bytes) -> str | None:
        """The kind of secret that a line holds."""
        found = [span for span in self._surface(line, None, named=False) if span.kind not in REVERSIBLE]
        return max(found, key=lambda span: (self._weights[span.rule], span.end - span.start)).kind if found else None

    def _surface(self, data: bytes, late: Callable[[], bool] | None, *, named: bool = True) -> set[Span]:
        found: set[Span] = set()
        for detector in self._always:
            _check(late)
            self._take(detector, _Window(data, 0, len(data)), data, (), found)
        reached: dict[int, int] = {}
        spellings = Spellings(data)
        for index, start, end in self._windows(data, late):
            _check(late)
            start = max(start, reached.get(index, 0))
            if start < end and (named or self._detectors[index].id != pairs.ID):
                reached[index] = self._look(self._detectors[index], _Window(data, start, end), spellings, found)
        return found

    def _windows(self, data: bytes, late: Callable[[], bool] | None) -> Iterator[tuple[int, int, int]]:
        """For each detector the windows that it must see, as its index, start and end; those that touch are one."""
        if self._keywords is None:
            return
        detectors, by_keyword = self._detectors, self._by_keyword
        open_: dict[int, tuple[int, int]] = {}
        for chunk in range(0, len(data), _CHUNK):
            _check(late)
            part = data[chunk : chunk + _CHUNK + self._longest - 1].lower()
            for word, start, end in self._keywords.find_matches_as_indexes(part, overlapping=True):
                if start >= _CHUNK:
                    continue
                for index in by_keyword[word]:
                    detector = detectors[index]
                    first, last = chunk + start - detector.before, chunk + end + detector.after
                    if (window := open_.get(index)) is None:
                        open_[index] = (first, last)
                    elif first > window[1]:
                        yield index, max(window[0], 0), min(window[1], len(data))
                        open_[index] = (first, last)
                    elif window[1] - window[0] > _LARGEST:
                        # What lies across the cut is seen by both sides.
                        yield index, max(window[0], 0), min(window[1], len(data))
                        open_[index] = (max(first, window[1] - detector.before - detector.after), last)
                    else:
                        open_[index] = (min(first, window[0]), max(last, window[1]))
        for index, (first, last) in open_.items():
            yield index, max(first, 0), min(last, len(data))

    def _look(self, detector: Detector, window: "_Window", spellings: Spellings, found: set[Span]) -> int:
        """Runs a detector over a window, in all spellings; tells up to where a find goes, if beyond its window."""
        data, start, end = window
        text = data[start:end]
        before = len(found)
        reached = self._take(detector, window, text, (), found)
        views: tuple[View, ...] = ()
        if (spelled := spellings.window(start, end)) is not None:
            text, views = spelled.text, (spelled,)
            reached = max(reached, self._take(detector, window, text, views, found))
        if detector.lines and (lines := bare(text)) is not None:
            reached = max(reached, self._take(detector, window, lines.text, (lines, *views), found))
        if detector.wraps and len(found) == before and (whole := joined(text, detector.keywords)) is not None:
            reached = max(reached, self._take(detector, window, whole.text, (whole, *views), found))
        return reached

    def _take(
        self, detector: Detector, window: "_Window", text: bytes, views: tuple[View, ...], found: set[Span]
    ) -> int:
        data, start, end = window
        reached = 0
        for first, last, kind in detector.find(text):
            if kind not in self.kinds:
                continue
            here = (first, last)
            for view in views:
                here = view.origin(*here)
            stop = start + here[1]
            if detector.tail and stop >= end and stop < len(data) and (tail := _TAIL.match(data, stop)) is not None:
                stop = reached = tail.end()
            found.add(Span(start + here[0], stop, kind, detector.id))
            if len(found) > MOST:
                raise TooMany(f"over {MOST:,} places must not leave", hint="send a part of it, or what is in it")
        return reached

    def _rank(self, span: Span) -> tuple[bool, int, int, str]:
        """Of two that overlap the higher one says what both are: a secret before what may come back."""
        return span.kind not in REVERSIBLE, self._weights[span.rule], span.end - span.start, span.rule

    def _apart(self, found: set[Span], pseudonyms: list[tuple[int, int]]) -> list[Span]:
        """Stretches that overlap become one, of the heaviest kind, else the longest; pseudonyms are cut out of them."""
        whole: list[Span] = []
        for span in sorted(found):
            if whole and span.start < whole[-1].end:
                last = whole[-1]
                best = max((last, span), key=self._rank)
                whole[-1] = Span(last.start, max(last.end, span.end), best.kind, best.rule)
            else:
                whole.append(span)
        if not pseudonyms:
            return whole
        return [piece for span in whole for piece in _without(span, pseudonyms)]


class _Window(NamedTuple):
    """What of a text a detector sees."""

    data: bytes
    start: int
    end: int


def _escaped(word: bytes) -> Iterator[bytes]:
    """A keyword as it may stand within JSON: as it is, and at two depths of escapes, needed and not."""
    yield word
    for slashes in (b"\\", b"\\\\", b"\\\\\\"):
        yield re.sub(rb'[/"\\]', lambda match: slashes + match[0], word)  # noqa: B023
        yield re.sub(rb"[=&<>']", lambda match: slashes + b"u00%02x" % match[0][0], word)  # noqa: B023
    text = word.decode()
    yield json.dumps(text)[1:-1].encode()
    yield json.dumps(json.dumps(text)[1:-1])[1:-1].encode()


def _without(span: Span, pseudonyms: list[tuple[int, int]]) -> Iterator[Span]:
    """What of a stretch lies between pseudonyms; a rest of a few bytes is what stands around one."""
    start = span.start
    index = max(bisect_left(pseudonyms, (start, 0)) - 1, 0)
    touched = False
    while index < len(pseudonyms) and pseudonyms[index][0] < span.end:
        first, last = pseudonyms[index]
        index += 1
        if last <= start:
            continue
        touched = True
        if first - start >= _SHORTEST_REST:
            yield Span(start, first, span.kind, span.rule)
        start = last
    if not touched or span.end - start >= _SHORTEST_REST:
        yield Span(start, span.end, span.kind, span.rule)


def _pseudonyms(data: bytes) -> list[tuple[int, int]]:
    if b"\xe2\x9f\xa6" not in data and b"u27e6" not in data and b"u27E6" not in data:
        return []
    return [match.span() for match in PSEUDONYM.finditer(data)]


def _check(late: Callable[[], bool] | None) -> None:
    if late is not None and late():
        raise OutOfTime("redaction ran out of time", hint="a smaller input; or more time, in the policy")
