"""`Schedules`: what is changed, refused, and told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from tests.integration.scheduler.harness import Desk

from streamatiq import on
from streamatiq.errors import InvalidSchedule, ScheduleConflict, ScheduleNotFound
from streamatiq.scheduler import Schedule, Schedules, schedules


def tick(name: str = "some", **fields: Any) -> Schedule:
    values = {"every": "10s", "kind": "publish", "parameters": {"type": "test.tick"}, **fields}
    return Schedule(name=name, **values)


def test_what_is_there_is_not_replaced_unasked(desk: Desk) -> None:
    assert desk.schedules.add(tick("a"), tick("b")) == ["created", "created"]
    assert desk.schedules.add(tick("a"), tick("b")) == ["same", "same"]
    with pytest.raises(ScheduleConflict, match="A schedule 'a' exists and is another"):
        desk.schedules.add(tick("c"), tick("a", every="5s"))
    assert [one.schedule.name for one in desk.schedules.all()] == ["a", "b"]
    assert desk.schedules.add(tick("a", every="5s"), replace=True) == ["changed"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "publsh"}, "no kind 'publsh'; there are checkpoint, publish, replay"),
        ({"parameters": {"type": "no.such"}}, "No event class is registered as 'no.such'"),
        ({"parameters": {"typ": "x"}}, "parameters of 'publish': type: Field required; typ: Extra"),
        ({"parameters": {"type": "test.tick", "event": {"txt": 1}}}, "txt"),
        ({"parameters": {"type": "test.tick", "event": {"id": "x"}}}, "the event names id, which"),
        ({"kind": "send", "parameters": {"actor": "gret"}},
         "no actor 'gret' is declared here; there are greet. Name the module"),
        ({"kind": "send", "parameters": {"actor": "handler"}}, "'handler' handles events"),
        ({"kind": "send", "parameters": {"actor": "greet", "options": {"priority": "top"}}},
         "priority is 'top'; use one of"),
        ({"kind": "requeue", "parameters": {"queue": "mial"}}, "'mial' is no queue or"),
        ({"kind": "requeue", "parameters": {"queue": "mail", "causes": ["tired"]}},
         "'tired' is no cause; use one of failed"),
        ({"every": None, "at": "2020-01-01T00:00"}, "would never fire: at 2020-01-01T00:00:00 (UTC)"
         " is over"),
        ({"end": "2020-01-01T00:00"}, "would never fire"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_and_nothing_is_changed(
    desk: Desk, client: redis.Redis, fields: dict[str, Any], said: str
) -> None:
    from tests.integration.scheduler.harness import Tick

    @on(Tick, name="handler", broker=desk.broker)
    def handler(event: Tick) -> None: ...

    desk.schedules.add(tick("there"))
    before = desk.held(client)
    with pytest.raises(InvalidSchedule) as caught:
        desk.schedules.add(tick("good"), tick("bad", **fields))
    assert said in str(caught.value)
    assert "Schedule 'bad': " in str(caught.value) or "Schedule 'bad' would" in str(caught.value)
    assert desk.held(client) == before


def test_a_name_that_is_not_there(desk: Desk) -> None:
    desk.schedules.add(tick("there"))
    calls: list[Any] = [
        desk.schedules.get,
        desk.schedules.remove,
        desk.schedules.pause,
        desk.schedules.resume,
        desk.schedules.run,
        desk.schedules.history,
    ]
    for call in calls:
        with pytest.raises(ScheduleNotFound, match=r"no schedule 'their' in .*; there are: there"):
            call("their")
    with pytest.raises(ScheduleNotFound):
        desk.schedules.remove("there", "their")
    assert len(desk.schedules.all()) == 1


def test_changes_are_made_together_or_not_at_all(desk: Desk) -> None:
    desk.schedules.add(tick("a"), tick("b"))
    plan = desk.schedules.plan([tick("a", every="5s"), tick("c")], prune=True)
    assert [(one.name, one.action) for one in plan] == [
        ("a", "change"), ("c", "create"), ("b", "remove"),
    ]  # fmt: skip
    Schedules(desk.broker).add(tick("b", every="3s"), replace=True)  # somebody else, meanwhile
    with pytest.raises(ScheduleConflict, match="Schedule 'b' was changed by somebody else"):
        desk.schedules.make(plan)
    assert [one.schedule.name for one in desk.schedules.all()] == ["a", "b"]
    again = desk.schedules.plan([tick("a", every="5s"), tick("c")], prune=True)
    assert desk.schedules.make(again) == ["changed", "created", "removed"]
    settled = desk.schedules.plan([tick("a", every="5s"), tick("c")], prune=True)
    assert [one.action for one in settled] == ["keep", "keep"]
    assert desk.schedules.make(settled) == ["same", "same"]
    with pytest.raises(InvalidSchedule, match="Two schedules are named 'a'"):
        desk.schedules.plan([tick("a"), tick("a")])


def test_a_single_run_that_is_over_stays_as_it_is(desk: Desk) -> None:
    """Applied again after it has run, a file changes nothing."""
    soon = datetime.fromtimestamp(desk.next_time() / 1000, UTC)
    once = tick("once", every=None, at=soon)
    desk.schedules.add(once)
    leader = desk.lead()
    leader.advance(20_000)
    assert len(desk.ticks()) == 1
    status = desk.schedules.get("once")
    assert status.next_fire is None
    assert desk.schedules.add(once) == ["same"]
    leader.load()
    leader.look()
    assert len(desk.ticks()) == 1


def test_where_the_times_stay_the_same_the_place_does_too(desk: Desk) -> None:
    desk.schedules.add(tick(missed="each"))
    cursor = desk.schedules.get("some").state.cursor
    desk.schedules.add(tick(missed="once", description="new"), replace=True)
    assert desk.schedules.get("some").state.cursor == cursor
    desk.schedules.add(tick(missed="once", every="9s"), replace=True)
    assert desk.schedules.get("some").state.cursor >= cursor


def test_removing_takes_everything(desk: Desk, client: redis.Redis) -> None:
    desk.schedules.add(tick("a"))
    desk.lead().advance(10_000)
    desk.schedules.pause("a")
    desk.schedules.remove("a")
    keys = desk.broker.keys.scheduler
    assert client.exists(keys.state("a"), keys.history("a"), keys.runs("a"), keys.schedules) == 0
    desk.schedules.add(tick("a"))
    assert not desk.schedules.get("a").paused


def test_a_run_goes_on_when_its_schedule_is_removed(desk: Desk, client: redis.Redis) -> None:
    desk.schedules.add(tick("a"))
    leader = desk.lead()
    desk.now_ms = desk.next_time()
    run = leader.runner._next("a")
    assert run is not None
    desk.schedules.remove("a")
    leader.runner._do(run)
    assert len(desk.ticks()) == 1
    keys = desk.broker.keys.scheduler
    assert client.exists(keys.state("a"), keys.history("a"), keys.runs("a")) == 0


def test_what_a_removed_schedule_left_behind_is_not_the_business_of_a_new_one(
    desk: Desk, client: redis.Redis
) -> None:
    desk.schedules.add(tick("a"))
    desk.now_ms = desk.next_time()
    assert desk.lead("one").runner._next("a") is not None  # and dies
    desk.schedules.remove("a")
    keys = desk.broker.keys.scheduler
    assert 0 < client.ttl(keys.runs("a")) <= 86_400
    desk.schedules.add(tick("a", every="1h"))
    desk.lead("two").look()
    assert desk.ticks() == []
    assert client.exists(keys.runs("a")) == 0


def test_there_is_a_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "MOST_SCHEDULES", 3)
    desk.schedules.add(tick("a"), tick("b"))
    with pytest.raises(ScheduleConflict, match="There may be 3 schedules"):
        desk.schedules.add(tick("c"), tick("d"))
    assert len(desk.schedules.all()) == 2
    desk.schedules.add(tick("c"))
    desk.schedules.add(tick("c", every="5s"), replace=True)


def test_who_changed_what_is_recorded(desk: Desk, client: redis.Redis) -> None:
    desk.schedules.add(tick("a"))
    desk.schedules.pause("a")
    desk.schedules.remove("a")
    entries: Any = client.xrange(desk.broker.keys.scheduler.changes)
    assert [(f[b"a"], f[b"s"], f[b"by"]) for _, f in entries] == [
        (b"created", b"a", b"test"),
        (b"pause", b"a", b"test"),
        (b"removed", b"a", b"test"),
    ]
