"""Missed-run policies, deadlines and jitter, against a naive reference; no clock is read."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from streamatiq.scheduler.definition import Missed
from streamatiq.scheduler.planning import Delay, Plan, delay_by_name, plan

POLICY = st.sampled_from(["skip", "once", "each"])
TIMES = st.lists(st.integers(1, 500), max_size=30, unique=True).map(sorted)


def within(times: list[int]) -> Callable[[int], int | None]:
    return lambda after: next((time for time in times if time > after), None)


def play(
    times: list[int], policy: Missed, deadline: int | None, delay: Delay, now: int, steps: int
) -> tuple[list[int], int, Plan]:
    """Plans until nothing is due: what ran, how many were missed, the last plan."""
    cursor, ran, missed = 0, [], 0
    for _ in range(1000):
        planned = plan(
            within(times), missed=policy, deadline_ms=deadline, delay=delay, cursor=cursor,
            now=now, steps=steps,
        )  # fmt: skip
        assert planned.cursor >= cursor
        missed += planned.missed
        if planned.run is not None:
            ran.append(planned.run.time)
        elif planned.cursor == cursor:
            return ran, missed, planned
        cursor = planned.cursor
    raise AssertionError("it goes on for ever")


def reference(
    times: list[int], policy: Missed, deadline: int | None, delay: Delay, now: int
) -> tuple[list[int], int]:
    """In the words of the documentation."""
    due = []
    for time in times:
        if time + delay(time) > now:
            break  # nothing overtakes it
        due.append(time)
    in_time = [t for t in due if deadline is None or now - (t + delay(t)) <= deadline]
    ran = in_time if policy == "each" else in_time[-1:]
    return ran, len(due) - len(ran)


@settings()
@given(
    times=TIMES,
    policy=POLICY,
    deadline=st.none() | st.integers(0, 200),
    now=st.integers(0, 600),
    jitter=st.sampled_from([0, 0, 7, 60]),
    steps=st.integers(2, 12),
)
def test_each_policy_does_what_it_says(
    times: list[int], policy: Missed, deadline: int | None, now: int, jitter: int, steps: int
) -> None:
    delay = delay_by_name("some", jitter)
    ran, missed, last = play(times, policy, deadline, delay, now, steps)
    due_first = jitter == 0
    expected, expected_missed = reference(times, policy, deadline, delay, now)
    if due_first or policy == "each" or deadline is None:
        assert (ran, missed) == (expected, expected_missed)
    # With jitter a later fire time may still be in time when an earlier one, delayed more, is not.
    assert set(ran) <= set(times)
    assert len(ran) + missed == len([t for t in times if t <= (last.cursor or 0)])
    upcoming = within(times)(last.cursor)
    assert last.upcoming == (None if upcoming is None else (upcoming, upcoming + delay(upcoming)))


@given(times=TIMES, policy=POLICY, looks=st.lists(st.integers(0, 600), max_size=12).map(sorted))
def test_no_fire_time_is_dealt_with_twice_however_often_it_is_looked(
    times: list[int], policy: Missed, looks: list[int]
) -> None:
    cursor, dealt = 0, []
    for now in looks:
        while True:
            planned = plan(
                within(times), missed=policy, deadline_ms=None, delay=lambda _: 0, cursor=cursor,
                now=now,
            )  # fmt: skip
            assert planned.run is None or planned.run.time <= now
            if planned.run is not None:
                dealt.append(planned.run.time)
            if planned.cursor == cursor:
                break
            cursor = planned.cursor
    assert dealt == sorted(set(dealt))
    if policy == "each":
        assert dealt == [time for time in times if looks and time <= looks[-1]]


@given(st.text(max_size=20), st.integers(0, 10**13), st.integers(0, 10**7))
def test_jitter_is_bounded_and_found_again(name: str, time: int, jitter: int) -> None:
    delay = delay_by_name(name, jitter)(time)
    assert 0 <= delay <= jitter
    assert delay == delay_by_name(name, jitter)(time)


def test_jitter_spreads() -> None:
    delays = [delay_by_name("some", 1000)(time) for time in range(2000)]
    assert all(any(low <= one < low + 100 for one in delays) for low in range(0, 1000, 100))
    assert 450 < sum(delays) / len(delays) < 550
    assert delays != [delay_by_name("other", 1000)(time) for time in range(2000)]
