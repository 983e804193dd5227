"""Windows are wall-clock time: nights, weekends, clocks that are put back and forward."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.windows import is_open, next_open, parse_window
from schemas.errors import Malformed
from schemas.window import DAYS

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "weekday",
        "weekday:",
        "weekday:09:00",
        "weekday:9:00-18:00",
        "weekday:09:00-18:00 ",
        " weekday:09:00-18:00",
        "weekday:09:00-18:00\n",
        "Weekday:09:00-18:00",
        "weekday:09:60-18:00",
        "weekday:24:00-18:00",
        "weekday:09:00-24:01",
        "weekday:09:00-25:00",
        "weekday:09.00-18.00",
        "weekday:٠٩:00-18:00",
        "monday:09:00-18:00",
        "mon-:09:00-18:00",
        "-mon:09:00-18:00",
        "mon--fri:09:00-18:00",
        "mon-fri-sun:09:00-18:00",
        "mon,,fri:09:00-18:00",
        ",mon:09:00-18:00",
        "weekday-sun:09:00-18:00",
        "mon fri:09:00-18:00",
        "mon:09:00-18:00,tue:09:00-18:00",
        "mon:09:00--18:00",
        "x" * 100_000,
    ],
    ids=lambda text: repr(text[:30]),
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(Malformed) as refused:
        parse_window(text)
    assert refused.value.hint
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("text", "days", "start", "end"),
    [
        ("weekday:09:00-18:00", {0, 1, 2, 3, 4}, 540, 1080),
        ("weekend:00:00-24:00", {5, 6}, 0, 1440),
        ("daily:22:00-06:00", set(range(7)), 1320, 1800),
        ("wed:12:00-12:00", {2}, 720, 2160),
        ("fri-mon:01:00-02:00", {4, 5, 6, 0}, 60, 120),
        ("mon-mon:01:00-02:00", {0}, 60, 120),
        ("mon,wed-thu,weekend:01:00-02:00", {0, 2, 3, 5, 6}, 60, 120),
    ],
)
def test_the_grammar(text: str, days: set[int], start: int, end: int) -> None:
    window = parse_window(text)
    assert (set(window.days), window.start, window.end) == (days, start, end)


@pytest.mark.parametrize(
    ("window", "zone", "now", "opened"),
    [
        # Friday's night belongs to Friday.
        ("fri:22:00-06:00", "UTC", "2026-11-20T22:00", True),
        ("fri:22:00-06:00", "UTC", "2026-11-21T05:59:59", True),
        ("fri:22:00-06:00", "UTC", "2026-11-21T06:00", False),
        ("fri:22:00-06:00", "UTC", "2026-11-20T05:00", False),
        ("fri:22:00-06:00", "UTC", "2026-11-21T22:00", False),
        ("sun:22:00-06:00", "UTC", "2026-11-23T03:00", True),
        # The end is not part of it, the start is.
        ("weekday:09:00-18:00", BERLIN, "2026-11-20T07:59:59.999999", False),
        ("weekday:09:00-18:00", BERLIN, "2026-11-20T08:00", True),
        ("weekday:09:00-18:00", BERLIN, "2026-11-20T16:59:59.999999", True),
        ("weekday:09:00-18:00", BERLIN, "2026-11-20T17:00", False),
        ("weekday:09:00-18:00", BERLIN, "2026-11-21T10:00", False),
        # In summer the same clock is another instant.
        ("weekday:09:00-18:00", BERLIN, "2026-07-17T07:00", True),
        ("weekday:09:00-18:00", BERLIN, "2026-07-17T16:30", False),
        # The day is the zone's: it is Monday in Auckland while Sunday in UTC.
        ("mon:00:00-24:00", "Pacific/Auckland", "2026-11-22T12:00", True),
        ("mon:00:00-24:00", "UTC", "2026-11-22T12:00", False),
        # Berlin, 25 October 2026: 02:30 comes twice, at 00:30 and 01:30 UTC. Both are within.
        ("sun:02:00-03:00", BERLIN, "2026-10-24T23:59", False),
        ("sun:02:00-03:00", BERLIN, "2026-10-25T00:30", True),
        ("sun:02:00-03:00", BERLIN, "2026-10-25T01:30", True),
        ("sun:02:00-03:00", BERLIN, "2026-10-25T02:00", False),
        # Berlin, 29 March 2026: 02:00 to 03:00 never comes.
        ("sun:02:00-03:00", BERLIN, "2026-03-29T00:59:59", False),
        ("sun:02:00-03:00", BERLIN, "2026-03-29T01:00", False),
        ("sun:02:30-03:30", BERLIN, "2026-03-29T01:00", True),
        ("sun:02:30-03:30", BERLIN, "2026-03-29T01:30", False),
        # New York, 1 November 2026 and 8 March 2026.
        ("sun:01:00-02:00", NEW_YORK, "2026-11-01T05:30", True),
        ("sun:01:00-02:00", NEW_YORK, "2026-11-01T06:30", True),
        ("sun:01:00-02:00", NEW_YORK, "2026-11-01T07:00", False),
        ("sun:02:00-03:00", NEW_YORK, "2026-03-08T07:00", False),
        ("sat:22:00-03:00", NEW_YORK, "2026-03-08T06:59", True),
        ("sat:22:00-03:00", NEW_YORK, "2026-03-08T07:00", False),
    ],
)
def test_when_a_window_is_open(window: str, zone: str, now: str, opened: bool) -> None:
    assert is_open([window], zone, utc(now)) is opened


def test_the_offset_of_now_does_not_matter() -> None:
    now = utc("2026-10-25T00:30")
    for zone in (timezone(timedelta(hours=9)), ZoneInfo(BERLIN), ZoneInfo(NEW_YORK)):
        assert is_open(["sun:02:00-03:00"], BERLIN, now.astimezone(zone))


def test_a_time_without_offset_is_refused() -> None:
    with pytest.raises(Malformed):
        is_open(["daily:00:00-24:00"], "UTC", datetime(2026, 1, 1))


@pytest.mark.parametrize("zone", ["", "Nowhere/At_All", "../UTC", "/etc/localtime", "localtime", "Europe", "x" * 999])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(Malformed):
        is_open(["daily:00:00-24:00"], zone, utc("2026-01-01"))


def test_no_window_is_never_open() -> None:
    assert not is_open([], "UTC", utc("2026-01-01"))
    assert next_open([], "UTC", utc("2026-01-01")) is None


@pytest.mark.parametrize(
    ("windows", "zone", "now", "wanted"),
    [
        (["weekday:09:00-18:00"], BERLIN, "2026-11-20T10:00:07", "2026-11-20T10:00:07"),
        (["weekday:09:00-18:00"], BERLIN, "2026-11-20T17:00:30", "2026-11-23T08:00"),
        (["weekday:09:00-18:00"], BERLIN, "2026-10-23T17:00", "2026-10-26T08:00"),
        (["sun:02:00-03:00"], BERLIN, "2026-03-28T12:00", "2026-04-05T00:00"),
        (["sun:02:10-03:10"], BERLIN, "2026-03-28T12:00", "2026-03-29T01:00"),
        (["sun:02:30-02:45"], BERLIN, "2026-10-25T00:50", "2026-10-25T01:30"),
        (["sat:00:00-24:00", "mon:03:07-03:08"], NEW_YORK, "2026-11-22T12:00", "2026-11-23T08:07"),
        (["fri:12:00-12:01"], "Asia/Kathmandu", "2026-11-20T12:00", "2026-11-27T06:15"),
    ],
)
def test_when_a_window_opens_next(windows: list[str], zone: str, now: str, wanted: str) -> None:
    assert next_open(windows, zone, utc(now)) == utc(wanted)


TIMES = st.integers(0, 1439).map(lambda minute: f"{minute // 60:02}:{minute % 60:02}")
DAY_LISTS = st.lists(st.sampled_from([*DAYS, "weekday", "weekend", "daily", "fri-mon"]), min_size=1, max_size=2)
WINDOWS = st.builds(lambda days, a, b: f"{','.join(days)}:{a}-{b}", DAY_LISTS, TIMES, TIMES | st.just("24:00"))
ZONES = st.sampled_from([BERLIN, NEW_YORK, "UTC", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia"])
# Around the days on which clocks change, mostly.
STARTS = st.sampled_from(
    ["2026-03-28", "2026-10-24", "2026-03-07", "2026-10-31", "2026-04-04", "2026-10-03", "2026-06-01"]
)
MOMENTS = st.builds(lambda day, minute: utc(day) + timedelta(minutes=minute), STARTS, st.integers(0, 3 * 1440))


def naive(windows: Sequence[str], local: datetime) -> bool:
    """By the letter of the grammar: walks back on the wall, minute by minute, to a start that has not ended yet."""
    wall = local.replace(tzinfo=None, second=0, microsecond=0)
    for text in windows:
        days, start, end = text.split(":", 1)[0], text[-11:-6], text[-5:]
        for back in range(1440):
            began = wall - timedelta(minutes=back)
            if began.strftime("%H:%M") == start and _is_on(days, began.weekday()):
                length = (int(end[:2]) * 60 + int(end[3:]) - began.hour * 60 - began.minute) % 1440 or 1440
                if back < length:
                    return True
    return False


def _is_on(days: str, day: int) -> bool:
    for part in days.split(","):
        if part == "daily" or (part == "weekday" and day < 5) or (part == "weekend" and day > 4):
            return True
        if part == DAYS[day] or (part == "fri-mon" and day in (4, 5, 6, 0)):
            return True
    return False


@settings(max_examples=150, deadline=None)
@given(st.lists(WINDOWS, min_size=1, max_size=2), ZONES, MOMENTS)
def test_a_window_is_open_when_the_wall_says_so(windows: list[str], zone: str, now: datetime) -> None:
    assert is_open(windows, zone, now) == naive(windows, now.astimezone(ZoneInfo(zone)))


@settings(max_examples=60, deadline=None)
@given(st.lists(WINDOWS, min_size=1, max_size=2), ZONES, MOMENTS)
def test_the_next_opening_is_the_first(windows: list[str], zone: str, now: datetime) -> None:
    found = next_open(windows, zone, now)
    minute = now
    while not is_open(windows, zone, minute):
        minute += timedelta(minutes=1)
    assert found == minute
