"""Definitions: what is refused, what is stored, and the times of intervals and single runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamatiq.errors import InvalidSchedule
from streamatiq.scheduler import Schedule
from streamatiq.scheduler.cron import readings
from streamatiq.scheduler.durations import milliseconds, shown
from streamatiq.scheduler.timing import from_ms, to_ms


def schedule(**fields: Any) -> Schedule:
    return Schedule(**{"name": "some", "kind": "publish", **fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "give one of cron, every and at; here: none of them is"),
        ({"cron": "@daily", "every": "1h"}, "here: cron and every"),
        ({"cron": "* * *"}, "cron '* * *' has 3 fields instead of five"),
        ({"cron": "61 * * * *"}, "cron '61 * * * *': Error validating expression '61'"),
        ({"cron": "*/0 * * * *"}, "Increment must be higher than 0"),
        ({"cron": "0 0 * * mon#2"}, "'mon#2' is no day of the week; write 0-7"),
        ({"cron": "0 0 * * 8"}, "'8' is no day of the week"),
        ({"cron": "0 0 * * fri-tue"}, "'fri-tue' ends before it begins"),
        ({"cron": "0 0 * * */0"}, "'*/0' has the step 0"),
        ({"cron": "0 0 30 2 *"}, "cron '0 0 30 2 *' never happens: there is no such day"),
        ({"cron": {"hourr": 1}}, "cron has no field 'hourr'; there are: year, month, day"),
        ({"cron": {}}, "cron names no field"),
        ({"cron": {"month": "2", "day": "30"}}, "never happens"),
        ({"cron": "@daily", "zone": "Mars/X"}, "zone: zone 'Mars/X' is not known; use a name"),
        ({"cron": "@daily", "start": "2026-01-02", "end": "2026-01-01"}, "end 2026-01-01 00:00:00 "
         "is not after start 2026-01-02"),
        ({"cron": "@daily", "start": "2026-01-02T03:00", "end": "2026-01-02T04:00"},
         "it never fires between its start and end"),
        ({"at": "2026-01-02", "start": "2026-01-01"}, "with at there is one time only"),
        ({"every": 0}, "every: 0s is too short an interval: use 1s or more"),
        ({"every": -1}, "every: -1 is not between 0 and a hundred years"),
        ({"every": "soon"}, "every: 'soon' is no length of time; write 90s, 15m, 1h30m or 2d"),
        ({"every": True}, "True is no length of time"),
        ({"every": "1h", "missed": "never"}, "missed: Input should be 'skip', 'once' or 'each', "
         "got 'never'"),
        ({"every": "1h", "max_running": 0}, "max_running: Input should be greater than"),
        ({"every": "1h", "jittr": 1}, "jittr: there is no such field; there are name, cron, every"),
        ({"every": "1h", "name": "a:b"}, "name: use a letter or _ and then letters"),
        ({"every": "1h", "parameters": {"x": {1, 2}}}, "parameters: they must be JSON"),
        ({"every": "1h", "parameters": {"x": float("nan")}}, "parameters: they must be JSON"),
        ({"every": "1h", "kind": None}, "kind: Input should be a valid string, got None"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        schedule(**fields)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"Schedule {fields.get('name', 'some')!r}: ")


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(InvalidSchedule, match=r"every: .*; zone: .*; deadline: "):
        schedule(every=0, zone="x", deadline="y")


@pytest.mark.parametrize(
    "fields",
    [
        {"every": "1h30m", "deadline": 90, "jitter": timedelta(milliseconds=2500)},
        {"cron": "30 9 * * mon-fri", "zone": "America/New_York", "missed": "once"},
        {"cron": {"hour": 2, "day_of_week": "mon", "second": "*/15"}, "max_running": 3},
        {"at": datetime(2026, 12, 24, 18), "zone": "Europe/Berlin", "parameters": {"a": [1, None]}},
        {"every": 60, "start": datetime(2026, 1, 1, tzinfo=UTC), "end": "2027-01-01"},
    ],
)
def test_what_is_stored_is_read_again(fields: dict[str, Any]) -> None:
    made = schedule(**fields)
    again = Schedule.from_json(made.to_json())
    assert again == made
    assert again.to_json() == made.to_json()
    assert again.timing == made.timing
    changed = schedule(**{**fields, "kind": "send", "deadline": 5})
    assert changed.timing == made.timing
    assert (
        schedule(**{**fields, "end": "2199-01-01"}).timing != made.timing
        if ("at" not in fields)
        else True
    )


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"name": "x"}'])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(InvalidSchedule):
        Schedule.from_json(text)


@given(st.integers(0, 10**12))
def test_lengths_of_time_are_read_as_they_are_shown(length_ms: int) -> None:
    assert milliseconds(shown(length_ms)) == length_ms


@given(
    every=st.integers(1000, 10**9),
    start=st.none() | st.integers(0, 2 * 10**12),
    after=st.integers(0, 2 * 10**12),
)
def test_intervals_are_exact_over_years(every: int, start: int | None, after: int) -> None:
    first = None if start is None else from_ms(start)
    times = schedule(every=every / 1000, start=first).fire_times
    found = times(after)
    assert found is not None
    assert found > after
    anchor = start or 0
    assert found >= anchor
    assert (found - anchor) % every == 0
    assert found - every <= after or found == anchor
    following = times(found)
    assert following == found + every


def test_start_and_end_are_included() -> None:
    made = schedule(every="1h", start="2026-01-01T10:00", end="2026-01-01T12:00")
    at, found = 0, []
    while (at := made.fire_times(at) or 0) != 0:
        found.append(from_ms(at).hour)
    assert found == [10, 11, 12]
    cron = schedule(cron="0 * * * *", start="2026-01-01T10:00", end="2026-01-01T12:00")
    first = cron.fire_times(0)
    assert first == to_ms(datetime(2026, 1, 1, 10, tzinfo=UTC))
    assert cron.fire_times(to_ms(datetime(2026, 1, 1, 12, tzinfo=UTC))) is None


def test_a_single_run() -> None:
    made = schedule(at="2026-03-29T02:30", zone="Europe/Berlin")
    at = to_ms(datetime(2026, 3, 29, 1, 0, tzinfo=UTC))
    assert made.fire_times(at - 1) == at
    assert made.fire_times(at) is None
    assert made.when == "at 2026-03-29T02:30:00 (Europe/Berlin)"


WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("*", "sun mon tue wed thu fri sat"),
        ("0", "sun"),
        ("7", "sun"),
        ("mon-fri", "mon tue wed thu fri"),
        ("5-7", "sun fri sat"),
        ("fri-sun", "sun fri sat"),
        ("1-5/2", "mon wed fri"),
        ("*/3", "sun wed sat"),
        ("2/2", "tue thu sat"),
        ("MON,3", "mon wed"),
        ("0-7", "sun mon tue wed thu fri sat"),
    ],
)
def test_weekdays_are_those_of_cron_not_of_apscheduler(field: str, days: str) -> None:
    meant = readings(f"0 0 * * {field}")
    at, found = datetime(2026, 1, 3, 12), set()
    while at < datetime(2026, 1, 17):
        following = meant.after(at)
        assert following is not None
        at = following
        found.add((at.weekday() + 1) % 7)
    assert [WEEKDAYS[day] for day in sorted(found)] == days.split()


def test_names_of_months_macros_and_named_fields() -> None:
    start = datetime(2026, 1, 15, 12)
    assert readings("0 0 1 jun-jul *").after(start) == datetime(2026, 6, 1)
    assert readings("@weekly").after(start) == datetime(2026, 1, 18)
    assert readings("@yearly").after(start) == datetime(2027, 1, 1)
    assert readings({"day": "last", "hour": "18"}).after(start) == datetime(2026, 1, 31, 18)
    assert readings({"day": "2nd fri"}).after(start) == datetime(2026, 2, 13)
    # APScheduler's own: all fields must hold, and Monday is 0.
    both = readings({"day": "13", "day_of_week": "4"})
    assert both.after(start) == datetime(2026, 2, 13)
    assert readings({"second": "*/15"}).after(start) == datetime(2026, 1, 15, 12, 0, 15)
    # A day, or a weekday; but both where one of them begins with *.
    assert readings("0 0 13 * 5").after(start) == datetime(2026, 1, 16)
    assert readings("0 0 */2 * 5").after(start) == datetime(2026, 1, 23)
