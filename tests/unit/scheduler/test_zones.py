"""Fire times of cron expressions, against a walk through every minute; changes of the clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamatiq.scheduler.cron import readings
from streamatiq.scheduler.zones import after, moment, zone

MINUTE = timedelta(minutes=1)

#: Zones, and days around which their clocks are changed: by an hour, by half an hour, at midnight,
#: at 00:01, by a whole day, and never.
CHANGES = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-04"),
    ("Australia/Lord_Howe", "2026-10-03"),
    ("Europe/Dublin", "2026-10-25"),
    ("Asia/Beirut", "2026-03-28"),
    ("Asia/Beirut", "2026-10-24"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("America/Sao_Paulo", "2018-02-18"),
    ("America/St_Johns", "2010-03-14"),
    ("America/St_Johns", "2010-11-07"),
    ("Pacific/Apia", "2011-12-30"),
    ("Africa/Casablanca", "2026-02-15"),
    ("Asia/Kolkata", "2026-06-01"),
    ("UTC", "2026-06-01"),
]


def parts(least: int, most: int) -> st.SearchStrategy[list[int] | None]:
    """Values of one field; None: all."""
    return st.none() | st.lists(st.integers(least, most), min_size=1, max_size=4, unique=True).map(
        sorted
    )


def field(values: list[int] | None) -> str:
    return "*" if values is None else ",".join(map(str, values))


def matcher(
    minutes: list[int] | None,
    hours: list[int] | None,
    days: list[int] | None,
    weekdays: list[int] | None,
) -> Callable[[datetime], bool]:
    """Whether a reading of the clock is meant; weekday 0 is Sunday."""

    def matches(at: datetime) -> bool:
        by_day = days is None or at.day in days
        by_weekday = weekdays is None or (at.weekday() + 1) % 7 in {day % 7 for day in weekdays}
        either = days is not None and weekdays is not None
        return (
            at.second == 0
            and (minutes is None or at.minute in minutes)
            and (hours is None or at.hour in hours)
            and (by_day or by_weekday if either else by_day and by_weekday)
        )

    return matches


def walked(
    matches: Callable[[datetime], bool],
    every_hour: bool,
    where: tzinfo,
    start: datetime,
    hours: int,
) -> Iterator[datetime]:
    """The same, minute by minute."""
    at = start.replace(second=0, microsecond=0)
    while at < start + timedelta(hours=hours):
        before, at = at, at + MINUTE
        local = at.astimezone(where)
        reading = local.replace(tzinfo=None, fold=0)
        if every_hour:
            if matches(reading):
                yield at
            continue
        skipped = before.astimezone(where).replace(tzinfo=None, fold=0) + MINUTE
        found = matches(reading) and local.fold == 0
        while not found and skipped < reading:
            found = matches(skipped)
            skipped += MINUTE
        if found:
            yield at


@settings(max_examples=60, deadline=None)
@given(
    change=st.sampled_from(CHANGES),
    shift=st.integers(-22 * 3600, 10 * 3600),
    minutes=parts(0, 59),
    hours=parts(0, 23) | parts(0, 4),
    days=parts(1, 31),
    weekdays=parts(0, 7),
)
@example(("Europe/Berlin", "2026-03-29"), -3600, [30], [2], None, None)
@example(("Europe/Berlin", "2026-10-25"), -3600, [0, 30], [2, 3], None, None)
@example(("Europe/Berlin", "2026-10-25"), -3600, [0, 30], None, None, None)
@example(("Pacific/Apia", "2011-12-30"), -20 * 3600, [0], [12], None, None)
def test_fire_times_are_those_of_a_walk_through_every_minute(
    change: tuple[str, str],
    shift: int,
    minutes: list[int] | None,
    hours: list[int] | None,
    days: list[int] | None,
    weekdays: list[int] | None,
) -> None:
    where = ZoneInfo(change[0])
    start = datetime.fromisoformat(change[1]).replace(tzinfo=UTC) + timedelta(seconds=shift)
    meant = readings(f"{field(minutes)} {field(hours)} {field(days)} * {field(weekdays)}")
    every_hour = hours is None or len(hours) == 24
    assert meant.every_hour == every_hour
    matches = matcher(minutes, hours, days, weekdays)
    at = start
    for expected in walked(matches, every_hour, where, start, 26):
        found = after(meant, where, at)
        assert found == expected, (at, found, expected)
        at = expected
    beyond = after(meant, where, at)
    assert beyond is not None
    assert beyond >= start + timedelta(hours=26)


@pytest.mark.parametrize(
    ("name", "cron", "start", "expected"),
    [
        # Spring: 02:30 does not exist, and happens in the moment of the change.
        ("Europe/Berlin", "30 2 * * *", "2026-03-28T12:00", ["29 03:00+02:00", "30 02:30+02:00"]),
        ("America/New_York", "30 2 * * *", "2026-03-07T12:00",
         ["08 03:00-04:00", "09 02:30-04:00"]),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-02T20:00",
         ["04 02:30+11:00", "05 02:15+11:00"]),
        # Several that do not exist are one.
        ("Europe/Berlin", "*/20 2 * * *", "2026-03-29T00:00", ["29 03:00+02:00", "30 02:00+02:00"]),
        # Every hour of the clock: the hour that does not exist is left out.
        ("Europe/Berlin", "30 * * * *", "2026-03-29T00:00",
         ["29 01:30+01:00", "29 03:30+02:00", "29 04:30+02:00"]),
        # Autumn: 02:30 exists twice, and happens the first time.
        ("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00", ["25 02:30+02:00", "26 02:30+01:00"]),
        ("America/New_York", "30 1 * * *", "2026-10-31T12:00",
         ["01 01:30-04:00", "02 01:30-05:00"]),
        # Every hour of the clock: the hour that exists twice happens twice.
        ("Europe/Berlin", "30 * * * *", "2026-10-24T23:45",
         ["25 02:30+02:00", "25 02:30+01:00", "25 03:30+01:00"]),
        # In the middle of the hour that is shown again, the first time is over.
        ("Europe/Berlin", "45 2 * * *", "2026-10-25T01:20", ["26 02:45+01:00"]),
        # The first moment that is new again.
        ("Europe/Berlin", "0 3 * * *", "2026-10-25T01:20", ["25 03:00+01:00"]),
    ],
)  # fmt: skip
def test_changes_of_the_clocks(name: str, cron: str, start: str, expected: list[str]) -> None:
    where, meant = zone(name), readings(cron)
    at = datetime.fromisoformat(start).replace(tzinfo=UTC)
    for one in expected:
        found = after(meant, where, at)
        assert found is not None
        local = found.astimezone(where)
        assert f"{local:%d %H:%M%z}" == f"{one[:8]}{one[8:].replace(':', '')}"
        at = found


def test_a_time_that_is_named_once() -> None:
    berlin = zone("Europe/Berlin")
    shown = datetime(2026, 3, 29, 2, 30)
    assert moment(shown, berlin) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    twice = datetime(2026, 10, 25, 2, 30)
    assert moment(twice, berlin) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert moment(datetime(2026, 7, 1, 12), berlin) == datetime(2026, 7, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "Europe"])
def test_a_zone_that_is_not_known(name: str) -> None:
    with pytest.raises(ValueError, match="is not known; use a name such as Europe/Berlin"):
        zone(name)
