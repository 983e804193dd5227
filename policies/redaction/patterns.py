"""Patterns on RE2: linear in the text, whatever the pattern; over the bytes of UTF-8."""

from collections.abc import Iterator
from typing import Any, Protocol

import re2  # type: ignore[import-untyped]

from schemas.errors import Malformed

MAX_PATTERN = 16_384
"""Bytes of a pattern."""

_MEMORY = 16 << 20


class Match(Protocol):
    """As of `re`."""

    def start(self, group: int = 0) -> int:
        """Offset."""

    def end(self, group: int = 0) -> int:
        """Offset."""

    def span(self, group: int = 0) -> tuple[int, int]:
        """Both; -1 where the group took no part."""

    def __getitem__(self, group: int) -> bytes: ...


class Pattern(Protocol):
    """As of `re`, over bytes; groups are numbered from 1."""

    groups: int

    def search(self, text: bytes, pos: int = 0, endpos: int | None = None) -> Match | None:
        """The first place where it matches."""

    def match(self, text: bytes, pos: int = 0, endpos: int | None = None) -> Match | None:
        """At `pos`."""

    def fullmatch(self, text: bytes) -> Match | None:
        """All of it."""

    def finditer(self, text: bytes) -> Iterator[Match]:
        """All places."""


def compiled(pattern: str, name: str) -> Pattern:
    """A pattern in RE2's syntax.

    Args:
        name: of the rule, for the message.

    Raises:
        Malformed: RE2 refuses it, or it is too long.
    """
    options = re2.Options()
    # Left on, it would write to stderr.
    options.log_errors = False
    options.max_mem = _MEMORY
    if len(pattern.encode()) > MAX_PATTERN:
        raise Malformed(f"rule {name}: its pattern is over {MAX_PATTERN:,} bytes")
    try:
        found: Any = re2.compile(pattern, options)
    except re2.error as error:
        what = error.args[0] if error.args else ""
        what = what.decode("utf-8", "replace") if isinstance(what, bytes) else str(what)
        raise Malformed(
            f"rule {name}: RE2 refuses its pattern: {what[:120]}", hint="it has no look-around and no back-references"
        ) from None
    regexp: Pattern = found
    return regexp


class Which:
    """Several patterns, looked for in one pass.

    Args:
        patterns: in RE2's syntax.
    """

    __slots__ = ("_set",)

    def __init__(self, *patterns: str) -> None:
        options = re2.Options()
        options.max_mem = _MEMORY
        self._set = re2.Set.SearchSet(options)
        for pattern in patterns:
            self._set.Add(pattern)
        self._set.Compile()

    def __call__(self, text: bytes) -> frozenset[int]:
        """The numbers of those that match somewhere."""
        return frozenset(self._set.Match(text) or ())
