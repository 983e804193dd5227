"""Redaction: exact values, rules and forms, in this order, over a request; pseudonyms in the place of what they find.

What is masked is looked at again, until nothing more is found: what comes out is what comes out of it the next time.
Items are remembered by their digest, so that a conversation that grows is looked at once.
"""

import json
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from blake3 import blake3

from policies.redaction import binary
from policies.redaction.candidates import Candidate, foremost, groups, shared, together, without
from policies.redaction.exact import PROFILE as EXACT
from policies.redaction.exact import Exact, Hit
from policies.redaction.literals import Stretch, fit, read
from policies.redaction.profile import Profile
from policies.redaction.pseudonym import MARK, REVERSIBLE, Pseudonyms, restore
from policies.redaction.scan import TooMany
from policies.redaction.span import Span
from policies.redaction.splice import Put, Spliced
from policies.redaction.walk import Leaf, Role, is_number, walk
from schemas.errors import LedgerError

MEMORY = 64 << 20
"""Bytes of results that are remembered."""

MOST = 200_000
"""Places that may be masked in one request: more are no text that somebody wrote, and nobody could look at them."""

_SHARE = 8
"""What takes more than this part of the memory is not remembered: one result would take the place of a run's."""

_OFTEN = 4096
"""Places between two looks at the time."""

_ROUNDS = 8
"""How often a text is looked at: each time less of it is left, and twice is usual."""

_BATCH = 1 << 20
"""Bytes that are looked at in one go, between two looks at the time."""

_LISTS = ("input", "tools")
_ROLES: Mapping[str, Role] = {"input": "item", "tools": "tool", "text": "format"}
_OTHERWISE = "masked"
"""The kind in a pseudonym whose own kind is a known secret's value: too short to be one."""


_T = TypeVar("_T")


class Unredacted(LedgerError):
    """A text could not be redacted, so that it must not leave."""


class Scanner(Protocol):
    """Rules and forms, such as `policies.redaction.scan` has. Kinds that the profile lets pass are not its business."""

    @property
    def version(self) -> str:
        """Digest of what it looks for."""

    def find(self, data: bytes, late: Callable[[], bool] | None = None) -> list[Span]:
        """What it finds, in order, without overlap. Raises a `LedgerError` where time is up."""


class Found(NamedTuple):
    """What was masked; to be sealed.

    Attributes:
        place: where it was, such as `input[3].content[0].text`.
        start, end: byte offsets into the text there, in UTF-8.
        kind, rule: as in `Span`.
    """

    place: str
    start: int
    end: int
    kind: str
    rule: str


class Redacted(NamedTuple):
    """A value that may leave.

    Attributes:
        value: it shares what did not change with the value that came, and with other results: not to be altered.
        found: what was masked, in order.
        mapping: values by their pseudonyms, of kinds that the profile restores; to be sealed.
    """

    value: Any
    found: tuple[Found, ...]
    mapping: dict[str, str]

    @property
    def counts(self) -> dict[str, int]:
        """How often each rule masked something; in order of their names."""
        return dict(sorted(Counter(found.rule for found in self.found).items()))


class _Mask(NamedTuple):
    """A stretch of a text as it came, and what stands there."""

    start: int
    end: int
    put: bytes
    kind: str
    rule: str
    value: str | None


class _Bounds:
    """How much a request may take.

    Args:
        expired: whether time is up.
    """

    __slots__ = ("_expired", "_left")

    def __init__(self, expired: Callable[[], bool]) -> None:
        self._expired = expired
        self._left = MOST

    def look(self) -> None:
        """Raises where time is up."""
        if self._expired():
            raise Unredacted("redaction ran out of time", hint="nothing was sent; send less at once")

    def holds(self, count: int) -> None:
        """Raises where so many places of one text are too many."""
        if count > self._left:
            raise Unredacted(f"over {MOST:,} places must not leave", hint="nothing was sent; send less at once")

    def take(self, count: int) -> None:
        """Counts places of a text that is done."""
        self.holds(count)
        self._left -= count

    def often(self, many: Iterable[_T]) -> Iterator[_T]:
        """Many things, with a look at the time now and then."""
        for number, one in enumerate(many):
            if number % _OFTEN == 0:
                self.look()
            yield one


_SAME = object()


class _Kept(NamedTuple):
    value: Any
    found: tuple[Found, ...]
    mapping: dict[str, str]
    size: int


class Redactor:
    """Redaction of one run. Not for two threads at once.

    Args:
        profile: what is masked, and what comes back.
        scanner: None where only exact values are looked for.
        exact: values that are known by name.
        key: 32 bytes, of the run.
        memory: bytes of results that it remembers at most.

    Attributes:
        version: digest of profile, rules and number of exact values, hex.
    """

    def __init__(
        self, profile: Profile, scanner: Scanner | None, exact: Exact, key: bytes, *, memory: int = MEMORY
    ) -> None:
        self.profile = profile
        self._scanner = scanner
        self._exact = exact
        self._pseudonyms = Pseudonyms(key)
        self._restores = REVERSIBLE & set(profile.restores)
        self._allow = {text.encode() for text in profile.allow}
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._room = self._memory = memory
        self._fits: dict[str, bool] = {}
        parts = (profile.version, scanner.version if scanner is not None else "", exact.version)
        self.version = blake3(" ".join(parts).encode()).hexdigest()

    def redact(self, request: dict[str, Any], expired: Callable[[], bool] = bool) -> Redacted:
        """A request to the Responses API that may leave.

        Args:
            expired: whether time is up; asked again and again.

        Raises:
            Unredacted: time is up, a text does not settle, or there are over `MOST` places to mask.
            Blocked: it carries what the profile lets not leave.
            Collided: two names of an object are masked alike.
        """
        found: list[Found] = []
        mapping: dict[str, str] = {}
        value: dict[str, Any] = {}
        bounds = _Bounds(expired)

        def one(member: Any, place: str, role: Role = "") -> Any:
            kept = self._remembered(member, place, bounds, role)
            bounds.take(len(kept.found))
            found.extend(each._replace(place=place + each.place) for each in kept.found)
            mapping.update(kept.mapping)
            return member if kept.value is _SAME else kept.value

        for name, member in request.items():
            if name in _LISTS and isinstance(member, list) and not is_number(member):
                new = [one(each, f"{name}[{index}]", _ROLES[name]) for index, each in enumerate(member)]
                value[name] = new if any(a is not b for a, b in zip(new, member, strict=True)) else member
            elif isinstance(member, str | list | dict) or is_number(member):
                value[name] = one(member, name, _ROLES.get(name, ""))
            else:
                value[name] = member
        return Redacted(value, tuple(found), mapping)

    def text(self, text: bytes, expired: Callable[[], bool] = bool) -> Redacted:
        """A text of its own, such as a file; `value` is bytes.

        Raises:
            Unredacted: time is up, or it does not settle.
        """
        (masks,) = self._settled([Leaf(text, "")], _Bounds(expired))
        found, mapping = self._told([Leaf(text, "")], [masks])
        return Redacted(_masked(text, masks).text, found, mapping)

    def restore(
        self, item: dict[str, Any], mapping: Mapping[str, str], expired: Callable[[], bool] = bool
    ) -> dict[str, Any]:
        """A complete tool call as its client gets it: with values in the place of pseudonyms.

        One whose values would not be masked alike when the client sends it back stays as it is: `x/⟦path:…⟧` would be
        a path that no rule knows again.

        Args:
            mapping: of all requests of the run, or of the one that it answers.

        Raises:
            Unredacted: time is up.
        """
        back = restore(item, mapping)
        if back is item:
            return item
        bounds = _Bounds(expired)
        echo = self._remembered(back, "", bounds, "item")
        came = self._remembered(item, "", bounds, "item")
        alike = _spelled(back if echo.value is _SAME else echo.value) == _spelled(
            item if came.value is _SAME else came.value
        )
        return back if alike else item

    def _remembered(self, member: Any, place: str, bounds: _Bounds, role: Role) -> _Kept:
        try:
            spelled = msgspec.json.encode(member)
        except UnicodeEncodeError:
            raise Unredacted(f"{place}: a text holds what is no character") from None
        digest = blake3(role.encode() + b"\0" + spelled).digest()
        kept = self._kept.get(digest)
        if kept is not None:
            self._kept.move_to_end(digest)
            return kept
        kept = self._done(member, place, bounds, role)
        if kept.size > self._memory // _SHARE:
            return kept
        self._kept[digest] = kept
        self._room -= kept.size
        while self._room < 0 and len(self._kept) > 1:
            self._room += self._kept.popitem(last=False)[1].size
        return kept

    def _done(self, member: Any, place: str, bounds: _Bounds, role: Role) -> _Kept:
        how = self.profile.binary
        value, carriers = (member, []) if how == "pass" else binary.replaced(member, how, self._mark, place)
        leaves: list[Leaf] = []

        def collect(leaf: Leaf) -> None:
            leaves.append(leaf)

        walk(value, collect, role=role, opens=how == "pass")
        masks = self._settled(leaves, bounds)
        texts = iter(zip(leaves, masks, strict=True))

        def put(_: Leaf) -> str | None:
            leaf, found = next(texts)
            if not found:
                return None
            # Of an array of bytes nothing is left; what stands for it stands in its place.
            whole = leaf.number and leaf.text.startswith(b"[")
            return found[0].put.strip(b'"').decode() if whole else _masked(leaf.text, found).text.decode()

        if any(masks):
            value = walk(value, put, role=role, opens=how == "pass")
        found, mapping = self._told(leaves, masks)
        found += tuple(Found(one.place, 0, 0, one.kind, "binary") for one in carriers)
        if value is member:
            return _Kept(_SAME, (), {}, _EMPTY)
        return _Kept(value, found, mapping, _EMPTY + _weight(value) + _weight(mapping) + _FIND * len(found))

    def _told(
        self, leaves: Sequence[Leaf], masks: Sequence[Sequence[_Mask]]
    ) -> tuple[tuple[Found, ...], dict[str, str]]:
        pairs = [(leaf, mask) for leaf, found in zip(leaves, masks, strict=True) for mask in found]
        found = tuple(Found(leaf.place, one.start, one.end, one.kind, one.rule) for leaf, one in pairs)
        mapping = {one.put.decode(): one.value for _, one in pairs if one.value is not None}
        return found, mapping

    def _mark(self, kind: str, value: bytes) -> str:
        if kind not in self._fits:
            # Of its letters, drawn by a key, none can be foreseen; the kind may be a known secret's value.
            self._fits[kind] = not self._exact.found(self._pseudonyms.of(kind, b"")[:-17].encode())
        return self._pseudonyms.of(kind if self._fits[kind] else _OTHERWISE, value)

    def _settled(self, leaves: Sequence[Leaf], bounds: _Bounds) -> list[list[_Mask]]:
        """What is to be masked in each text, so that nothing more is found in what is left."""
        masks: list[list[_Mask]] = [[] for _ in leaves]
        now = [Spliced(leaf.text, ()) for leaf in leaves]
        open_: Sequence[int] = range(len(leaves))
        for _ in range(_ROUNDS):
            changed: list[int] = []
            for index, candidates in self._looked(open_, [text.text for text in now], leaves, bounds):
                new = self._fitted(now[index].text, candidates, bounds)
                if not new:
                    continue
                changed.append(index)
                placed = (
                    one._replace(start=start, end=end)
                    for one in bounds.often(new)
                    for start, end in [now[index].origin(*one[:2])]
                )
                masks[index] = _joined([*masks[index], *placed])
                bounds.look()
                now[index] = _masked(leaves[index].text, masks[index])
            bounds.holds(sum(map(len, masks)))
            if not changed:
                return masks
            open_ = changed
        raise Unredacted("a text does not settle: what is masked makes more to mask", hint="nothing of it was sent")

    def _looked(
        self, which: Sequence[int], texts: Sequence[bytes], leaves: Sequence[Leaf], bounds: _Bounds
    ) -> Iterator[tuple[int, list[Candidate]]]:
        """What is found in each of some texts, in batches."""
        batch: list[int] = []
        size = 0
        for index in which:
            batch.append(index)
            size += len(texts[index])
            if size < _BATCH and index != which[-1]:
                continue
            bounds.look()
            yield from self._batch(batch, texts, leaves, bounds)
            batch, size = [], 0

    def _batch(
        self, batch: Sequence[int], texts: Sequence[bytes], leaves: Sequence[Leaf], bounds: _Bounds
    ) -> Iterator[tuple[int, list[Candidate]]]:
        found: dict[int, list[Candidate]] = {}
        if self._exact:
            data, places = together((index, texts[index], b"", True) for index in batch)
            known: set[Hit] = set()
            for hit in self._exact.hits(data, bounds.look):
                known.add(hit)
                bounds.holds(len(known))
            hits = (Candidate(start, end, "secret", EXACT, value) for start, end, value in sorted(known))
            for index, one in shared(places, bounds.often(hits)):
                found.setdefault(index, []).append(one)
        if self._scanner is not None:
            judged = (index for index in batch if not leaves[index].stays)
            data, places = together((index, texts[index], leaves[index].name, leaves[index].number) for index in judged)
            spans = (Candidate(*span) for span in self._scanned(data, bounds) if self.profile.masks(span.kind))
            for index, one in shared(places, bounds.often(spans)):
                if one.kind not in REVERSIBLE or not leaves[index].keeps:
                    found.setdefault(index, []).append(one)
        if self.profile.binary != "pass":
            for index in batch:
                for start, end in binary.urls(texts[index]):
                    found.setdefault(index, []).append(Candidate(start, end, "file", "binary"))
        for index in sorted(found):
            if left := self._judged(texts[index], found[index], bounds):
                yield index, left

    def _scanned(self, data: bytes, bounds: _Bounds) -> list[Span]:
        if self._scanner is None:
            return []

        def late() -> bool:
            bounds.look()
            return False

        try:
            found = self._scanner.find(data, late)
        except TooMany as error:
            raise Unredacted(error.what, hint=error.hint) from None
        bounds.holds(len(found))
        return found

    def _judged(self, text: bytes, candidates: list[Candidate], bounds: _Bounds) -> list[Candidate]:
        """Candidates without what is a pseudonym already, and without what the profile allows."""
        marks = [match.span() for match in bounds.often(MARK.finditer(text))]
        left = []
        for one in bounds.often(candidates):
            if one.exact is not None:
                left.append(one)
            elif not self._allow or read(text[one.start : one.end]) not in self._allow:
                left += [one._replace(start=start, end=end) for start, end in without(one.start, one.end, marks)]
        return left

    def _fitted(self, text: bytes, candidates: list[Candidate], bounds: _Bounds) -> list[_Mask]:
        found = groups(bounds.often(candidates))
        stretches = [
            Stretch(group[0].start, max(one.end for one in group), number)
            for number, group in enumerate(bounds.often(found))
        ]
        marks: dict[tuple[str, bytes], str] = {}

        def mark(kind: str, value: bytes) -> bytes:
            if (kind, value) not in marks:
                marks[kind, value] = self._mark(kind, value)
            return marks[kind, value].encode()

        masks: list[_Mask] = []
        for start, end, number, value, quote in bounds.often(fit(text, stretches, 0, bounds.look)):
            first = foremost(found[number])
            back = None
            # Of a value that is torn apart each piece is another: names of one object stay different.
            if first.exact is not None and (start, end) == first[:2] == stretches[number][:2]:
                put = mark(first.kind, first.exact.encode())
            elif first.kind in REVERSIBLE and not quote:
                put = mark(first.kind, value)
                back = value.decode("utf-8", "surrogateescape") if first.kind in self._restores else None
            else:
                put = mark(first.kind, read(value))
            masks.append(_Mask(start, end, quote + put + quote, first.kind, first.rule, back))
            bounds.holds(len(masks))
        return masks


def _spelled(item: dict[str, Any]) -> dict[str, Any]:
    """An item with its arguments read: JSON spells a character in more than one way."""
    try:
        return {**item, "arguments": json.loads(item["arguments"])}
    except (KeyError, TypeError, ValueError, RecursionError):
        return item


_EMPTY = 512
_FIND = 256
"""Bytes that an entry takes by itself, and each of its finds."""


def _weight(value: Any) -> int:
    """Bytes of a value and all in it, though some of it is shared."""
    total, left = 0, [value]
    while left:
        inner = left.pop()
        total += sys.getsizeof(inner)
        if isinstance(inner, dict):
            left += [*inner, *inner.values()]
        elif isinstance(inner, list):
            left += inner
    return total


def _joined(masks: list[_Mask]) -> list[_Mask]:
    """Masks in order; of those that overlap the first one's, over all of them."""
    joined: list[_Mask] = []
    for one in sorted(masks, key=lambda one: (one.start, -one.end)):
        if joined and one.start < joined[-1].end:
            joined[-1] = joined[-1]._replace(end=max(joined[-1].end, one.end), value=None)
        else:
            joined.append(one)
    return joined


def _masked(text: bytes, masks: Sequence[_Mask]) -> Spliced:
    return Spliced(text, [Put(one.start, one.end, one.put) for one in masks])
