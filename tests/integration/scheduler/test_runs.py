"""Runs of one leader after the other: when they begin, what they do, what a crash leaves."""

from __future__ import annotations

from typing import Any

import dramatiq
import pytest
import redis
from tests.integration.scheduler.harness import Desk, Leader, kind

from streamatiq import scheduler
from streamatiq.errors import LeadershipLost
from streamatiq.scheduler import RunContext, run_id


def test_an_event_is_published_at_each_fire_time_with_an_id_of_its_own(desk: Desk) -> None:
    desk.add(every="10s")
    first = desk.next_time()
    leader = desk.lead()
    leader.advance(30_000)
    assert desk.times() == [first, first + 10_000, first + 20_000]
    assert [tick.id for tick in desk.ticks()] == [run_id("some", at) for at in desk.times()]
    assert {tick.source for tick in desk.ticks()} == {"schedule:some"}
    assert desk.outcomes() == ["done"] * 3
    status = desk.schedules.get("some")
    assert status.state.totals == {"done": 3}
    assert status.next_fire is not None
    assert int(status.next_fire.timestamp() * 1000) == first + 30_000
    assert b'runs_total{kind="publish",outcome="done"} 3.0' in leader.metrics.exposition()


def test_a_message_is_sent(desk: Desk, client: redis.Redis) -> None:
    desk.add(
        kind="send",
        parameters={"actor": "greet", "args": ["you"], "options": {"priority": "high"}},
    )
    desk.add(
        "later", kind="send", parameters={"actor": "greet", "args": ["me"], "delay_ms": 3_600_000}
    )
    first = desk.next_time()
    leader = desk.lead()
    leader.advance(10_000)
    keys = desk.broker.keys.queue("mail")
    entries: Any = client.xrange(keys.entries(scheduler_lane("high")))
    (message,) = [dramatiq.Message.decode(fields[b"m"]) for _, fields in entries]
    assert message.args == ("you",)
    assert message.message_id == str(run_id("some", first))
    assert client.zcard(keys.delayed) == 1
    assert desk.outcomes() == desk.outcomes("later") == ["done"]
    assert not list(client.scan_iter(f"{keys.tag}:producer:*"))


def scheduler_lane(name: str) -> Any:
    from streamatiq import Lane

    return Lane(name)


def test_a_run_that_its_leader_has_left_is_done_again_and_publishes_once(
    desk: Desk, client: redis.Redis
) -> None:
    """Killed at each place: before the step that publishes and ends, and after it."""
    desk.add(every="10s")
    leader = desk.lead("one")
    desk.now_ms = desk.next_time()
    run = leader.runner._next("some")
    assert run is not None
    assert desk.ticks() == []

    successor = desk.lead("two")
    successor.work()
    assert len(desk.ticks()) == 1
    (entry,) = desk.schedules.history("some")
    assert (entry.outcome, entry.attempts) == ("done", 2)
    assert entry.by == f"{successor.epoch} two"
    # The first one wakes up, and goes on where it was.
    with pytest.raises(LeadershipLost, match="the leader is 2 two"):
        leader.runner._do(run)
    third = desk.lead("three")
    third.look()
    assert len(desk.ticks()) == 1
    assert client.exists(desk.broker.keys.scheduler.runs("some")) == 0


def test_the_dedupe_window_does_not_matter(desk: Desk, client: redis.Redis) -> None:
    """However long nobody leads, what was published is not published again."""
    desk.add(every="10s", missed="once")
    leader = desk.lead("one")
    desk.now_ms = desk.next_time()
    run = leader.runner._next("some")
    assert run is not None
    leader.runner._do(run)
    log = desk.broker.keys.log("test.tick", "0")
    client.delete(log.ids, log.ids_old)
    leader.runner._do(run)  # repeated, since its reply was lost
    assert len(desk.ticks()) == 1
    desk.lead("two").look()
    assert len(desk.ticks()) == 1


def test_an_ex_leader_can_write_nothing(desk: Desk, client: redis.Redis) -> None:
    desk.add(every="10s")
    desk.add("mail", kind="send", parameters={"actor": "greet", "args": ["you"]})
    desk.add("again", kind="requeue", parameters={"queue": "mail"})
    leader = desk.lead("one")
    desk.now_ms = desk.next_time()
    runs = [leader.runner._next(name) for name in ("some", "mail", "again")]
    tries: list[Any] = [leader.runner._do]
    desk.lead("two")
    before = desk.held(client)
    for run in runs:
        assert run is not None
        with pytest.raises(LeadershipLost):
            tries[0](run)
    for name in ("some", "mail", "again"):
        leader.runner.fire(name)  # plans, and would begin
    context = contexts(leader)
    with pytest.raises(LeadershipLost):
        context.check_leadership()
    with pytest.raises(LeadershipLost):
        context.logs.publish_many([tick_of(desk), tick_of(desk)])
    with pytest.raises(LeadershipLost):
        context.dead_letters()._links.call(
            lambda link: link.run(scheduler.scripts.abdicate(desk.broker.keys.scheduler, "one"))
        )
    assert desk.held(client) == before
    assert leader.links.ended.is_set()


def contexts(leader: Leader) -> RunContext:
    from streamatiq.scheduler.scripts import RunEnd

    run = RunEnd("some", 1, "done", "", 50)
    return RunContext(
        leader.broker, leader.links, run, fired_ms=1, asked=False, attempt=1,
        stopping=leader.stopping,
    )  # fmt: skip


def tick_of(desk: Desk) -> Any:
    from tests.integration.scheduler.harness import Tick

    return Tick(ts_event=1, text="not to be seen")


def test_a_run_that_kills_every_leader_is_given_up(desk: Desk) -> None:
    began: list[int] = []
    desk.add(every="10s", kind=kind("killer", lambda context: began.append(context.attempt)))
    desk.now_ms = desk.next_time()
    for number in range(5):
        leader = desk.lead(f"leader{number}")
        run = leader.runner._next("some")
        if run is None:
            break
        outcome = leader.runner._doer.outcome(
            run.schedule, run.record
        )  # killed before the end is recorded
        if outcome is not None and outcome[0].outcome == "interrupted":
            leader.runner._take("some", 0)
            leader.runner._leave("some", 0)
            leader.runner._active.clear()
            leader.look()
    assert began == [1, 2, 3]
    assert desk.outcomes() == ["interrupted"]
    assert desk.schedules.history("some")[0].detail.startswith("begun 4 times")


def test_what_cannot_be_repeated_ends_as_interrupted(desk: Desk) -> None:
    began: list[int] = []
    desk.add(
        every="10s",
        kind=kind("once", lambda context: began.append(context.number), repeatable=False),
    )
    desk.now_ms = desk.next_time()
    assert desk.lead("one").runner._next("some") is not None
    leader = desk.lead("two")
    leader.look()
    assert began == []
    assert desk.outcomes() == ["interrupted"]
    leader.advance(10_000)
    assert len(began) == 1
    assert desk.outcomes() == ["interrupted", "done"]


def test_a_run_that_fails_says_why_and_the_next_one_runs(desk: Desk) -> None:
    def fail(context: RunContext) -> str | None:
        if context.number == 1:
            raise RuntimeError("the venue is closed")
        return "fine"

    desk.add(every="10s", kind=kind("fails", fail))
    leader = desk.lead()
    leader.advance(20_000)
    assert desk.outcomes() == ["failed", "done"]
    newest, oldest = desk.schedules.history("some")
    assert oldest.detail == "RuntimeError: the venue is closed"
    assert newest.detail == "fine"
    assert b'runs_total{kind="fails",outcome="failed"} 1.0' in leader.metrics.exposition()


def test_a_full_backlog_fails_the_run_and_nothing_is_published(
    desk: Desk, client: redis.Redis
) -> None:
    from streamatiq import Settings

    desk.broker.settings = Settings(event_bus={"max_queue_size": 2})
    client.xgroup_create(desk.broker.keys.log("test.tick", "0").entries, "slow", "0", mkstream=True)
    desk.add(every="10s")
    desk.add("mail", kind="send", parameters={"actor": "greet", "args": ["you"]})
    leader = desk.lead()
    leader.advance(40_000)
    assert len(desk.ticks()) == 2
    assert desk.outcomes() == desk.outcomes("mail") == ["done", "done", "failed", "failed"]
    assert "'slow' has 2 events of 'test.tick'" in desk.schedules.history("some")[0].detail
    assert "Work queue 'mail' is full: 2 messages" in desk.schedules.history("mail")[0].detail


def test_an_unknown_kind_on_the_server_fails_the_run_and_says_so(desk: Desk) -> None:
    name = kind("gone", lambda context: None)
    desk.add(every="10s", kind=name)
    from streamatiq.scheduler.kinds import _kinds

    del _kinds[name]
    leader = desk.lead()
    leader.advance(10_000)
    assert desk.outcomes() == ["failed"]
    assert "there is no kind 'gone'; there are checkpoint, publish, " in (
        desk.schedules.history("some")[0].detail
    )
