"""Checkpoints at the settings' interval and at the stop of the scheduler, by themselves."""

from __future__ import annotations

import signal

import pytest
from tests.integration.scheduler.fleet import SchedulerFleet
from tests.integration.scheduler.harness import Desk
from tests.support import wait_until

from streamatiq import Checkpoints, Settings
from streamatiq.errors import InvalidSchedule
from streamatiq.scheduler import Schedule
from streamatiq.scheduler.standing import CHECKPOINTS, changes


def reasons(fleet: SchedulerFleet) -> list[str]:
    return [one.reason for one in Checkpoints(fleet.broker).list()]


def test_at_each_interval_and_at_the_stop(fleet: SchedulerFleet) -> None:
    leader = fleet.start(checkpoint_interval="1")
    wait_until(lambda: reasons(fleet).count("interval") >= 2, 15)
    status = fleet.schedules.get(CHECKPOINTS)
    assert status.schedule.when == "every 1s"
    wait_until(lambda: fleet.schedules.get(CHECKPOINTS).state.totals.get("done", 0) >= 2)
    leader.signal(signal.SIGTERM)
    assert leader.wait(10).returncode == 0
    assert reasons(fleet)[-1] == "shutdown of the scheduler"
    assert all(Checkpoints(fleet.broker).verify(one.id).is_good
               for one in Checkpoints(fleet.broker).list())  # fmt: skip


def test_the_settings_of_who_leads_decide(fleet: SchedulerFleet) -> None:
    for interval, when in (("3600", "every 1h"), ("90", "every 1m30s"), ("null", "")):
        leader = fleet.start(checkpoint_interval=interval)
        fleet.wait_for_leader(leader)
        found = [one.schedule.when for one in fleet.schedules.all()]

        def as_said(when: str = when) -> bool:
            return [one.schedule.when for one in fleet.schedules.all()] == ([when] if when else [])

        wait_until(as_said, 10, lambda found=found: found)
        leader.signal(signal.SIGTERM)
        assert leader.wait(10).returncode == 0
    # None at the stop of the last one.
    assert reasons(fleet) == ["shutdown of the scheduler"] * 2


def test_a_pause_outlives_the_leader(fleet: SchedulerFleet) -> None:
    first = fleet.start(checkpoint_interval="1")
    wait_until(lambda: "interval" in reasons(fleet), 15)
    fleet.schedules.pause(CHECKPOINTS)
    first.signal(signal.SIGTERM)
    first.wait(10)
    second = fleet.start(checkpoint_interval="1")
    fleet.wait_for_leader(second, 2)
    assert fleet.schedules.get(CHECKPOINTS).paused


def test_its_name_is_taken(desk: Desk) -> None:
    mine = Schedule(name=CHECKPOINTS, every="1h", kind="checkpoint")
    with pytest.raises(InvalidSchedule, match=r"processor\.checkpoint_interval"):
        desk.schedules.add(mine)
    stored = {CHECKPOINTS: mine.to_json(), "mine": "x"}
    (changed,) = changes(Settings(), stored)
    assert (changed.name, changed.expected) == (CHECKPOINTS, mine.to_json())
    (gone,) = changes(Settings(processor={"checkpoint_interval": None}), stored)
    assert (gone.name, gone.definition) == (CHECKPOINTS, None)
    assert changed.definition is not None
    assert changes(Settings(), {CHECKPOINTS: changed.definition}) == []


def test_it_is_neither_removed_nor_pruned(fleet: SchedulerFleet) -> None:
    fleet.start(checkpoint_interval="3600")
    wait_until(fleet.schedules.all, 10)
    with pytest.raises(InvalidSchedule, match="may be paused"):
        fleet.schedules.remove(CHECKPOINTS)
    assert fleet.schedules.plan([], prune=True) == []
