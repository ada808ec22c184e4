"""Fire times that could not be kept: nobody led, a run took long, it was paused, or asked for."""

from __future__ import annotations

import pytest
import redis
from tests.integration.scheduler.harness import Desk, kind

from streamatiq.scheduler import RunContext, run_id


def test_each_policy_after_a_long_absence(desk: Desk) -> None:
    desk.add("skip", every="10s", missed="skip", deadline="5s")
    desk.add("once", every="10s", missed="once")
    desk.add("each", every="10s", missed="each")
    desk.add("late", every="10s", missed="each", deadline="25s")
    first = desk.next_time()
    desk.now_ms = first + 68_000  # nobody led
    desk.lead().work()
    ran = {name: [t.ts_event // 1_000_000 - first for t in desk.ticks() if t.text == name]
           for name in ("skip", "once", "each", "late")}  # fmt: skip
    assert ran == {
        "skip": [],
        "once": [60_000],
        "each": list(range(0, 70_000, 10_000)),
        "late": [50_000, 60_000],
    }
    (missed,) = desk.schedules.history("skip")
    assert (missed.outcome, missed.count) == ("missed", 7)
    assert (missed.fired_ms, missed.last_ms) == (first, first + 60_000)
    assert desk.outcomes("once") == ["missed", "done"]
    assert desk.schedules.get("late").state.totals == {"missed": 5, "done": 2}
    # Not again.
    desk.lead("two").look()
    assert len(desk.ticks()) == 10


def test_what_is_late_but_in_time_runs(desk: Desk) -> None:
    """A change of leader takes seconds: with `skip` too, nothing is lost by it."""
    desk.add(every="10s")
    desk.now_ms = desk.next_time() + 4_000
    desk.lead().work()
    assert desk.outcomes() == ["done"]


@pytest.mark.parametrize("missed", ["skip", "once", "each"])
def test_runs_do_not_overlap_and_what_comes_meanwhile_is_late(desk: Desk, missed: str) -> None:
    def long(context: RunContext) -> None:
        if context.number == 1:
            leader.runner.fire("some")  # a wake-up in the middle
            assert len(desk.schedules.get("some").state.runs) == 1
            desk.now_ms += 35_000  # it takes so long

    desk.add(every="10s", kind=kind("long", long), missed=missed, deadline="2s")
    first = desk.next_time()
    leader = desk.lead()
    leader.advance(first - desk.now_ms)
    assert desk.outcomes() == ["done", "missed"]
    assert desk.schedules.history("some")[0].count == 3

    desk.add(every="10s", kind="long", missed=missed, deadline="1m")
    leader.load()
    leader.advance(10_000)
    assert desk.schedules.history("some")[0].fired_ms == first + 40_000


def test_each_run_is_made_up_for_once_the_long_one_has_ended(desk: Desk) -> None:
    def long(context: RunContext) -> None:
        desk.now_ms += 35_000 if context.number == 1 else 0

    desk.add(every="10s", kind=kind("long", long), missed="each")
    first = desk.next_time()
    leader = desk.lead()
    leader.advance(first - desk.now_ms)
    history = desk.schedules.history("some")[::-1]
    assert [entry.fired_ms - first for entry in history] == [0, 10_000, 20_000, 30_000]


def test_a_new_leader_does_not_overlap_either(desk: Desk) -> None:
    """The one that runs is found on the server, done first, and only then the next."""
    desk.add(every="10s", missed="each")
    first = desk.next_time()
    desk.now_ms = first
    assert desk.lead("one").runner._next("some") is not None
    desk.now_ms = first + 10_000
    desk.lead("two").work()
    assert desk.times() == [first, first + 10_000]
    assert [e.attempts for e in desk.schedules.history("some")] == [1, 2]


def test_several_runs_at_a_time_where_that_is_allowed(desk: Desk) -> None:
    seen: list[int] = []

    def nested(context: RunContext) -> None:
        seen.append(len(desk.schedules.get("some").state.runs))
        if len(seen) < 4:
            desk.now_ms += 10_000
            leader.runner.fire("some")

    desk.add(every="10s", kind=kind("nested", nested), max_running=2, missed="each")
    leader = desk.lead()
    leader.advance(desk.next_time() - desk.now_ms)
    assert max(seen) == 2
    assert seen[0] == 1


def test_pause_and_resume(desk: Desk, client: redis.Redis) -> None:
    desk.add(every="10s", missed="each")
    leader = desk.lead()
    leader.advance(10_000)
    assert desk.schedules.pause("some") is True
    assert desk.schedules.pause("some") is False
    leader.look()
    leader.advance(50_000)
    assert len(desk.ticks()) == 1
    status = desk.schedules.get("some")
    assert status.paused
    assert status.next_fire is None
    # What would have been meanwhile is not missed: it was paused a minute ago.
    desk.now_ms = int(desk.broker.server_time().timestamp() * 1000)
    client.hset(desk.broker.keys.scheduler.state("some"), "cursor", desk.now_ms - 60_000)
    assert desk.schedules.resume("some") is True
    assert desk.schedules.resume("some") is False
    leader.look()
    assert desk.outcomes() == ["done"]
    leader.advance(20_000)
    assert desk.outcomes() == ["done"] * 3


def test_a_run_that_is_asked_for(desk: Desk) -> None:
    desk.add(cron="0 0 1 1 *")
    leader = desk.lead()
    leader.work()
    desk.schedules.pause("some")
    assert desk.schedules.run("some") is True
    assert desk.schedules.run("some") is False  # it has not begun
    leader.look()
    (tick,) = desk.ticks()
    (entry,) = desk.schedules.history("some")
    assert entry.asked
    assert tick.id == run_id("some", entry.fired_ms, asked=True)
    assert desk.schedules.get("some").paused
    assert desk.schedules.run("some") is True
    leader.look()
    assert len({tick.id for tick in desk.ticks()}) == 2


def test_a_run_that_is_asked_for_waits_for_the_one_that_runs(desk: Desk) -> None:
    def ask(context: RunContext) -> None:
        if context.number == 1:
            desk.schedules.run("some")
            leader.runner.fire("some")
            assert len(desk.schedules.get("some").state.runs) == 1

    desk.add(every="10s", kind=kind("asks", ask))
    leader = desk.lead()
    leader.advance(desk.next_time() - desk.now_ms)
    assert [entry.asked for entry in desk.schedules.history("some")] == [True, False]


def test_jitter_delays_the_run_and_not_its_name(desk: Desk) -> None:
    desk.add(every="10s", jitter="5s")
    first = desk.next_time()
    leader = desk.lead()
    leader.work()
    wish = leader.timer.wishes["some"]
    assert first <= wish <= first + 5_000
    leader.advance(15_000)
    assert desk.times()[0] == first


def test_what_is_changed_while_it_is_planned_is_planned_anew(desk: Desk) -> None:
    desk.add(every="10s")
    leader = desk.lead()
    leader.work()
    desk.add(every="7s")  # the leader has not heard of it
    desk.now_ms += 21_000
    leader.runner.fire("some")
    assert desk.ticks() == []
    leader.load()
    leader.work()
    assert all(at % 7_000 == 0 for at in desk.times())
    desk.schedules.remove("some")
    leader.runner.fire("some")
    leader.load()
    leader.advance(60_000)
    assert len(desk.ticks()) == 1
    assert leader.timer.wishes == {}


def test_a_state_that_was_lost_begins_anew(desk: Desk, client: redis.Redis) -> None:
    desk.add(every="10s", missed="each")
    client.delete(desk.broker.keys.scheduler.state("some"))
    leader = desk.lead()
    leader.advance(20_000)
    assert desk.outcomes() == ["done", "done"]


def test_history_is_bounded(desk: Desk) -> None:
    desk.add(every="1s", missed="each")
    desk.now_ms += 70_000
    desk.lead().work()
    assert len(desk.ticks()) >= 69
    assert len(desk.schedules.history("some", limit=1000)) == 50
