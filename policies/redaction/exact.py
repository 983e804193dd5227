"""Exact values: secrets that are known by name are found wherever they stand, however they are spelled there.

One automaton (Aho-Corasick) holds the first bytes of every spelling; what begins like one is compared in full. That is
one pass at 500 MB/s for a hundred secrets, where a search for each spelling falls to 7 MB/s. Where a piece of one
stands, or escapes and lists of bytes do, the text there is looked at once more as its last reader sees it (`views`).

Not found: a value in quoted-printable, in a compressed or encrypted text, in base64 more than twice or of a text in
UTF-16 or a wrapped one twice, in base85, uuencode or punycode, in words of 16 bits and decimals or octals of `od`; cut
in three within its first 24 characters (in two, where it has less), cut where line numbers or times stand before each
line, put together by a program from what is no literal, turned around; in capitals where it has small letters.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind
from blake3 import blake3

from policies.redaction import views
from policies.redaction.spellings import SHORTEST, Form, forms, parts

__all__ = ("PROFILE", "SHORTEST", "Exact", "Hit")

PROFILE = "exact"

_ANCHOR = 24
"""Bytes of a spelling that the automaton holds: its size stays small, however long the values are."""

_DENSE = 8000
"""Pieces of spellings up to which the automaton is a table, 50 MB at most; beyond, it is smaller and half as fast."""

_CHUNK = 1 << 18
_IN_BASE64 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/-_"


class Hit(NamedTuple):
    """Where a value stands.

    Attributes:
        start, end: byte offsets.
        value: which.
    """

    start: int
    end: int
    value: str

    def __repr__(self) -> str:
        return f"Hit({self.start}, {self.end})"


class Exact:
    """Given values.

    Args:
        values: by the name under which each is known, such as its URI.

    Raises:
        Malformed: one holds bytes that are no UTF-8: how it is spelled elsewhere can't be told.
    """

    def __init__(self, values: Iterable[tuple[str, str]]) -> None:
        known = sorted({text for name, value in values for text in parts(value, name)})
        # Of what the automaton holds: the spellings that begin so, and how far around a piece the rest of one may lie.
        self._begins: dict[bytes, list[Form]] = {}
        self._reach: dict[bytes, int] = {}
        spelled: dict[bytes, Form] = {}
        for form in (form for value in known for form in forms(value)):
            spelled[form.text] = form._replace(wraps=form.wraps or (form.text in spelled and spelled[form.text].wraps))
        for form in spelled.values():
            self._begins.setdefault(form.text[:_ANCHOR], []).append(form)
            for piece in _pieces(form.text) if form.wraps else ():
                self._reach[piece] = max(self._reach.get(piece, 0), 4 * len(form.text) + 256)
        self._held = list(dict.fromkeys([*self._begins, *self._reach]))
        self._longest = max(map(len, self._held), default=0)
        self._bytes = max((len(value.encode()) for value in known), default=0)
        self._beyond = not all(map(str.isascii, known))
        # Values that JSON can't hold as they are stand between escapes of both sorts.
        hard = (value for value in known if not value.isprintable() or '"' in value or "\\" in value)
        self._around = max((8 * len(value) + 64 for value in hard), default=0)
        self._automaton: BytesAhoCorasick | None = None
        if self._held:
            dense = len(self._held) <= _DENSE
            self._automaton = BytesAhoCorasick(
                self._held,
                matchkind=MatchKind.Standard,
                implementation=Implementation.DFA if dense else Implementation.ContiguousNFA,
            )
        self.version = blake3(PROFILE.encode() + len(known).to_bytes(4, "big")).hexdigest()

    def __bool__(self) -> bool:
        return self._automaton is not None

    def found(self, data: bytes) -> bool:
        """Whether any value stands in these bytes."""
        return next(self.hits(data), None) is not None

    def find(self, data: bytes) -> list[Hit]:
        """Where values stand, in order; hits may overlap."""
        return sorted(set(self.hits(data)))

    def hits(self, data: bytes, look: Callable[[], None] = lambda: None) -> Iterator[Hit]:
        """The same as they are found, some of them more than once.

        Args:
            look: called again and again; what it raises ends the search.
        """
        if self._automaton is None:
            return
        yield from self._seen(data, look)
        for part in views.seen(data, beyond=self._beyond, around=self._around, longest=self._bytes, look=look):
            look()
            for start, end, value in self._seen(part.view.text, look):
                yield Hit(*part.origin(start, end), value)

    def _seen(self, data: bytes, look: Callable[[], None]) -> Iterator[Hit]:
        """As the text stands, and with its lines joined around what may be a piece of a value."""
        near: list[list[int]] = []
        yield from self._begun(data, near, look)
        for start, end in near:
            for view in views.joined(data[start:end]):
                for hit in self._begun(view.text, [], look):
                    begin, stop = view.origin(hit.start, hit.end)
                    yield Hit(start + begin, start + stop, hit.value)

    def _begun(self, data: bytes, near: list[list[int]], look: Callable[[], None]) -> Iterator[Hit]:
        """What begins like a spelling and is one; and, added to `near`, the stretches around pieces of one."""
        if self._automaton is None:
            return
        for chunk in range(0, len(data), _CHUNK):
            look()
            part = data[chunk : chunk + _CHUNK + self._longest - 1]
            for number, start, _ in self._automaton.find_matches_as_indexes(part, overlapping=True):
                if start >= _CHUNK:
                    continue
                held, at = self._held[number], chunk + start
                if reach := self._reach.get(held):
                    first, last = max(at - reach, 0), at + reach
                    if near and first <= near[-1][1]:
                        near[-1] = [min(first, near[-1][0]), max(last, near[-1][1])]
                    else:
                        near.append([first, last])
                for text, value, left, right, _ in self._begins.get(held, ()):
                    if data.startswith(text, at):
                        yield Hit(*_widened(data, at, at + len(text), left, right), value)


def _pieces(text: bytes) -> Iterator[bytes]:
    """Two or three pieces of a spelling's beginning, of which one is whole wherever a line breaks."""
    begun = text[:_ANCHOR]
    size = len(begun) // 3 if len(begun) == _ANCHOR else len(begun) // 2
    return (begun[at : at + size] for at in range(0, len(begun) - size + 1, size))


def _widened(data: bytes, start: int, end: int, left: int, right: int) -> tuple[int, int]:
    """A stretch with the characters beside it that hold bits of it."""
    while left and start and data[start - 1] in _IN_BASE64:
        start, left = start - 1, left - 1
    while right and end < len(data) and data[end] in _IN_BASE64:
        end, right = end + 1, right - 1
    return start, end
