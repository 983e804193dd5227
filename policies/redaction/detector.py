"""What the scanner runs: something that looks at a window of text around a keyword."""

from collections.abc import Callable, Iterator
from typing import NamedTuple


class Found(NamedTuple):
    """What a detector finds in the text that it is given.

    Attributes:
        start, end: byte offsets into that text.
        kind: see `Span`.
    """

    start: int
    end: int
    kind: str


class Detector(NamedTuple):
    """One way to find something.

    Attributes:
        id: of the rule.
        kinds: what it may find.
        keywords: in lower case; where none of them stands, in any case, it finds nothing. Empty: it sees all text.
        before, after: bytes around a keyword that it must see.
        find: looks at a text, all or a window of it; linear in its length.
        wraps: whether it also looks across line breaks and pieces of string literals.
        lines: whether it also looks at the lines without what a diff or a log puts before each.
        weight: of two finds that overlap, whose kind stands: the heavier one's.
        tail: whether a find that reaches the end of its window goes on to the end of the word there.
    """

    id: str
    kinds: tuple[str, ...]
    keywords: tuple[bytes, ...]
    before: int
    after: int
    find: Callable[[bytes], Iterator[Found]]
    wraps: bool = False
    lines: bool = False
    weight: int = 2
    tail: bool = True
