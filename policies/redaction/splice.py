"""A text made of another by replacing stretches of it, with the way back to where each byte stood."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple


class Put(NamedTuple):
    """What stands in the place of a stretch.

    Attributes:
        start, end: byte offsets into the origin.
        text: what is put there.
    """

    start: int
    end: int
    text: bytes


class Spliced:
    """A text in which stretches of its origin were replaced.

    Args:
        origin: the text before.
        puts: in order, without overlap.

    Attributes:
        before: the text before.
        text: the text after.
    """

    __slots__ = ("_after", "_before", "_puts", "before", "text")

    def __init__(self, origin: bytes, puts: Sequence[Put]) -> None:
        parts: list[bytes] = []
        before: list[int] = []
        after: list[int] = []
        last = length = 0
        for start, end, text in puts:
            parts += (origin[last:start], text)
            length += start - last
            before.append(length)
            length += len(text)
            after.append(length)
            last = end
        parts.append(origin[last:])
        self.before = origin
        self.text = b"".join(parts) if puts else origin
        self._puts = puts
        self._before = before
        self._after = after

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """The stretch of the origin in which `text[start:end]` stood; what was replaced is taken whole.

        What was left out beside it is not taken.
        """
        return self._origin(start, last=False), self._origin(end, last=True)

    def _origin(self, at: int, *, last: bool) -> int:
        # Where something begins that was put there, an end still stands before it.
        index = (bisect_left if last else bisect_right)(self._before, at) - 1
        if index < 0:
            return at
        put = self._puts[index]
        if at >= self._after[index]:
            return put.end + at - self._after[index]
        return put.end if last else put.start

    def forward(self, start: int, end: int) -> tuple[int, int]:
        """The stretch of the text that stands for `origin[start:end]`; what was put there is taken whole."""
        return self._forward(start, last=False), self._forward(end, last=True)

    def _forward(self, at: int, *, last: bool) -> int:
        index = bisect_right(self._puts, at, key=lambda put: put.start) - 1
        if index < 0:
            return at
        put = self._puts[index]
        if at >= put.end:
            return self._after[index] + at - put.end
        return self._after[index] if last and at > put.start else self._before[index]
