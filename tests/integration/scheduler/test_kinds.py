"""Schedules that take checkpoints, trim logs, and replay."""

from __future__ import annotations

import pytest
from tests.integration.scheduler.harness import Desk, Tick

from streamatiq import Checkpoints
from streamatiq.errors import InvalidSchedule
from streamatiq.scheduler import run_id
from streamatiq.scheduler.replay import store_of
from streamatiq.scheduler.retention import Retention


def test_a_checkpoint_is_taken(desk: Desk) -> None:
    desk.add("safe", kind="checkpoint", parameters={})
    desk.lead().advance(20_000)
    taken = Checkpoints(desk.broker).list()
    assert len(taken) == 2
    assert {one.reason for one in taken} == {"schedule safe"}
    assert desk.outcomes("safe") == ["done", "done"]


def test_logs_are_trimmed(desk: Desk) -> None:
    desk.add("trim", kind="retention", parameters={})
    desk.lead().advance(10_000)
    assert desk.outcomes("trim") == ["done"]
    (entry,) = desk.schedules.history("trim")
    assert "0 entries of 0 streams trimmed" in str(entry)


def test_a_range_is_replayed_and_keeps_the_log_until_it_has_ended(desk: Desk) -> None:
    desk.broker.logs.publish_many([Tick(ts_event=n) for n in range(20)])
    desk.add("again", kind="replay", parameters={"types": ["test.tick"]})
    first = desk.next_time()
    leader = desk.lead()
    leader.advance(10_000)
    assert desk.outcomes("again") == ["done"]
    record = store_of(desk.broker).get(run_id("again", first).hex)
    assert record.standing.has_ended
    (entry,) = desk.schedules.history("again")
    assert "20 events, digest " in str(entry)
    assert store_of(desk.broker).needed() == {}
    floors, _ = Retention(desk.broker)._floors()
    assert floors == {}


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"types": ["nothing.such"]}, "nothing.such"),
        ({"types": ["test.tick"], "target": "live"}, "no schedule does that"),
        ({"types": ["test.tick"], "speed": 0}, "speed"),
        ({"types": ["test.tick"], "last": "1h", "start": "2024-01-01T00:00:00Z"}, "give `last`"),
        ({"types": ["test.tick"], "workers": 2}, "handlers"),
    ],
)
def test_a_wrong_replay_is_refused(desk: Desk, parameters: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidSchedule, match=says):
        desk.add("wrong", kind="replay", parameters=parameters)
    assert desk.schedules.all() == []
