"""Where two things differ first, in a form that people read."""

import difflib
from collections.abc import Iterator
from itertools import takewhile
from typing import Any, NamedTuple

import msgspec

_WIDTH = 160
"""Characters of a value that are shown."""

_AROUND = 40
_MOST = 8
"""Differences that are shown of two requests."""


class Difference(NamedTuple):
    """One place in which two values differ.

    Attributes:
        path: such as `input[3].content[0].text`.
        recorded, now: what stands there, cut around the place; empty where nothing does.
    """

    path: str
    recorded: str
    now: str


def differences(recorded: Any, now: Any, most: int = _MOST) -> list[Difference]:
    """The first differences of two JSON values, in order."""
    found = []
    for difference in _walk("", recorded, now):
        found.append(difference)
        if len(found) == most:
            break
    return found


def likeness(recorded: dict[str, Any], now: dict[str, Any]) -> int:
    """How much two requests have in common: items from the beginning, members."""
    ours, theirs = recorded.get("input"), now.get("input")
    count: int = sum(recorded.get(name) == value for name, value in now.items())
    if isinstance(ours, list) and isinstance(theirs, list):
        for one, other in zip(ours, theirs, strict=False):
            if one != other:
                break
            count += 10
        count -= abs(len(ours) - len(theirs))
        if ours and theirs:
            count += round(9 * difflib.SequenceMatcher(None, _cut(ours[-1]), _cut(theirs[-1]), autojunk=False).ratio())
    return count


def _cut(value: Any) -> str:
    return str(value)[:400]


def _walk(path: str, recorded: Any, now: Any) -> Iterator[Difference]:
    if recorded == now and type(recorded) is type(now):
        return
    if isinstance(recorded, dict) and isinstance(now, dict):
        for name in [*recorded, *(name for name in now if name not in recorded)]:
            where = f"{path}.{name}" if path else str(name)
            yield from _walk(where, recorded.get(name, _ABSENT), now.get(name, _ABSENT))
    elif isinstance(recorded, list) and isinstance(now, list):
        for index in range(max(len(recorded), len(now))):
            one = recorded[index] if index < len(recorded) else _ABSENT
            other = now[index] if index < len(now) else _ABSENT
            yield from _walk(f"{path}[{index}]", one, other)
    elif isinstance(recorded, str) and isinstance(now, str):
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(recorded, now, strict=False))
        start = max(0, sum(1 for _ in alike) - _AROUND)
        yield Difference(path, _part(recorded, start), _part(now, start))
    else:
        yield Difference(path, _said(recorded), _said(now))


_ABSENT = object()


def _part(text: str, start: int) -> str:
    cut = text[start : start + _WIDTH]
    return ("…" if start else "") + cut + ("…" if start + _WIDTH < len(text) else "")


def _said(value: Any) -> str:
    if value is _ABSENT:
        return ""
    return _part(msgspec.json.encode(value).decode(), 0)
