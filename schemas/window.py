"""Run windows as policies write them: `weekday:09:00-18:00`. Only their grammar; when one is open is a rule."""

import re
from functools import lru_cache

import msgspec

from schemas.errors import Malformed

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SETS = {"daily": range(7), "weekday": range(5), "weekend": range(5, 7)}
_WINDOW = re.compile(r"([a-z,-]+):([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")
_HINT = "for example weekday:09:00-18:00, sat,sun:22:00-06:00 or daily:00:00-24:00"


class Window(msgspec.Struct, frozen=True):
    """A stretch of wall-clock time on some days.

    Attributes:
        days: on which it begins, 0 for Monday.
        start: minutes after midnight.
        end: minutes after the same midnight; over 1,440 where it ends on the day after.
    """

    days: frozenset[int]
    start: int
    end: int


@lru_cache(maxsize=1024)
def parse_window(text: str) -> Window:
    """Reads `DAYS:HH:MM-HH:MM`.

    DAYS is `weekday`, `weekend`, `daily`, a day (`mon` to `sun`), a range of days (`mon-fri`, `fri-mon`) or a list of
    these with commas. An end that is not after its start is on the day after, so that `09:00-09:00` is a whole day.

    Raises:
        Malformed: it is no window.
    """
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise Malformed(f"not a window: {text[:60]!r}", hint=_HINT)
    hours = [int(digits) for digits in match.groups()[1:]]
    start, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
    if hours[1] > 59 or hours[3] > 59 or start >= 1440 or end > 1440:
        raise Malformed(f"no such time of day: {text[:60]!r}", hint="hours 00 to 23, minutes 00 to 59; 24:00 as an end")
    days = frozenset(day for part in match[1].split(",") for day in _days(part, text))
    return Window(days, start, end if end > start else end + 1440)


def _days(part: str, text: str) -> list[int]:
    if part in _SETS:
        return list(_SETS[part])
    first, dash, last = part.partition("-")
    if first not in DAYS or (dash and last not in DAYS):
        raise Malformed(f"no such day: {part[:20]!r} in {text[:60]!r}", hint=_HINT)
    begin = DAYS.index(first)
    length = (DAYS.index(last) - begin) % 7 if dash else 0
    return [(begin + offset) % 7 for offset in range(length + 1)]
