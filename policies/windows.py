"""When a policy's windows are open.

A window is wall-clock time: 09:00 in Berlin is 09:00 on the clock of Berlin, whatever the offset is that day. Now is
turned into local time and looked up; local times are never turned into instants, of which a fold has two and a gap
none. So an hour that the clock shows twice is open both times, and one that it skips never comes.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from schemas.errors import Malformed
from schemas.policy import is_zone
from schemas.window import Window, parse_window

__all__ = ["Window", "is_open", "next_open", "parse_window"]

_DAY = 1440
_HORIZON = 8 * _DAY + 180
"""Minutes until every window has come once, a clock set back included."""


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    if not is_zone(name):
        raise Malformed(f"no such time zone: {name[:60]!r}", hint="for example Europe/Berlin or UTC")
    return ZoneInfo(name)


def _holds(window: Window, local: datetime) -> bool:
    minute, day = local.hour * 60 + local.minute, local.weekday()
    if day in window.days and window.start <= minute < window.end:
        return True
    # One that began yesterday and goes on over midnight.
    return (day - 1) % 7 in window.days and minute < window.end - _DAY


def is_open(windows: Sequence[str], zone: str, now: datetime) -> bool:
    """Whether one of the windows is open.

    Args:
        now: with an offset, UTC or other.

    Raises:
        Malformed: a window or the zone is none, or the time has no offset.
    """
    if now.utcoffset() is None:
        raise Malformed("a time without zone says nothing", hint="give it in UTC")
    local = now.astimezone(_zone(zone))
    return any(_holds(parse_window(text), local) for text in windows)


def next_open(windows: Sequence[str], zone: str, now: datetime) -> datetime | None:
    """When one of the windows is open next: now, else the first minute at which one is, in UTC.

    None where there is no window, or the next days bring none.
    """
    if is_open(windows, zone, now):
        return now
    moment = now.astimezone(UTC).replace(second=0, microsecond=0)
    end = moment + timedelta(minutes=_HORIZON)
    opened = [parse_window(text) for text in windows]
    while opened and moment < end:
        moment += timedelta(minutes=_still_closed(opened, moment.astimezone(_zone(zone))))
        if is_open(windows, zone, moment):
            return moment
    return None


def _still_closed(windows: list[Window], local: datetime) -> int:
    """Minutes for which all surely stay closed, at least one: to the next start, and no further than a quarter hour.

    A clock changes at full quarter hours everywhere, so that none is jumped over.
    """
    minute = local.hour * 60 + local.minute
    quarter = 15 - minute % 15
    starts = [window.start - minute for window in windows if window.start > minute]
    return max(1, min([quarter, *starts]))
