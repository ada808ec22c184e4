"""The timetable: absolute, exact, and whole through pauses and changes of speed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamatiq.scheduler.replay.lateness import Lateness
from streamatiq.scheduler.replay.pace import Pace
from streamatiq.scheduler.replay.spec import FLAT_OUT

S = 1_000_000_000


def test_due_times_follow_from_the_first_event_alone() -> None:
    pace = Pace(10)
    assert pace.due_ns(1000 * S, 5 * S) == 5 * S
    # However late the driver asks: no drift.
    assert pace.due_ns(1010 * S, 500 * S) == 6 * S
    assert pace.due_ns(1010 * S + 5, 5 * S) == 6 * S  # half a ns is rounded to even


@given(st.lists(st.integers(0, 10 * S), min_size=1, max_size=200), st.sampled_from([0.5, 1, 10]))
def test_no_drift(gaps: list[int], speed: float) -> None:
    pace, recorded, now = Pace(speed), 7 * S, 3 * S
    first = recorded
    for gap in gaps:
        due = pace.due_ns(recorded, now)
        assert due is not None
        assert abs(due - (3 * S + (recorded - first) / speed)) <= 2
        now = max(now, due) + 12_345  # each delivery takes its time
        pace.taken(recorded, now)
        recorded += gap


def test_a_pause_does_not_count() -> None:
    pace = Pace(2)
    assert pace.due_ns(0, 0) == 0
    pace.pause(S)  # 2 s of recorded time are over
    assert pace.position_ns(50 * S) == 2 * S
    pace.pause(60 * S)  # again: nothing
    pace.resume(100 * S)
    pace.resume(101 * S)
    assert pace.due_ns(4 * S, 101 * S) == 101 * S


def test_another_speed_holds_from_now_on() -> None:
    pace = Pace(1)
    pace.due_ns(0, 0)
    pace.change(10, 5 * S)
    assert pace.due_ns(15 * S, 5 * S) == 6 * S
    pace.change(FLAT_OUT, 6 * S)
    assert pace.due_ns(99 * S, 6 * S) is None
    pace.taken(99 * S, 6 * S)
    pace.change(1, 7 * S)
    assert pace.due_ns(100 * S, 7 * S) == 8 * S


def test_steps_move_on_while_it_is_paused() -> None:
    pace = Pace(1)
    pace.pause(0)
    pace.taken(10 * S, 3 * S)
    pace.resume(20 * S)
    assert pace.due_ns(11 * S, 20 * S) == 21 * S


@given(st.lists(st.integers(0, 40_000_000), min_size=30, max_size=80), st.sampled_from([50, 1000]))
def test_a_rate_limit_is_never_exceeded(waits: list[int], rate: float) -> None:
    pace, now = Pace(FLAT_OUT, rate), S
    sent: list[int] = []
    for wait in waits:
        due = pace.due_ns(0, now)
        now = max(now, due or now) + wait
        pace.taken(0, now)
        sent.append(now)
    burst = rate * 0.011 + 2  # what the limit lets pass at once
    for at, time in enumerate(sent):
        within = [one for one in sent[at:] if one < time + S]
        assert len(within) <= rate + burst


def test_percentiles_are_at_most_a_sixteenth_too_high() -> None:
    late = Lateness()
    values = [n * 1000 for n in range(1, 1001)]
    for value in values:
        late.add(value)
    late.add(-5)
    for percent in (50, 95, 99):
        exact = values[percent * 10 - 1] / 1e6
        assert exact <= late.percentile_ms(percent) * 1.001
        assert late.percentile_ms(percent) <= exact * 1.07
    assert late.percentile_ms(100) == 1.0
    again = Lateness(late.saved(), late.most_ns, late.sum_ns)
    assert again.percentile_ms(99) == late.percentile_ms(99)
    assert again.count == 1001


def test_nothing_late() -> None:
    assert Lateness().percentile_ms(99) == pytest.approx(0)
