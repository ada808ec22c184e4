"""Checkpoints at the settings' interval and at the stop of the scheduler, by themselves."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.conftest import OwnServer
from tests.integration.scheduler.fleet import SchedulerFleet
from tests.integration.scheduler.harness import Desk, kind
from tests.support import wait_until

from streamatiq import Checkpoints, RedisStreamsBroker, Settings
from streamatiq.errors import InvalidSchedule
from streamatiq.scheduler import Schedule, Schedules
from streamatiq.scheduler.exclusive import turn
from streamatiq.scheduler.process import SchedulerProcess
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


@contextmanager
def leading(broker: RedisStreamsBroker) -> Iterator[SchedulerProcess]:
    process = SchedulerProcess(broker)
    process.start()
    wait_until(lambda: process.leading)
    yield process
    process.stop()
    assert process.wait(10)
    broker.close()


def test_a_stop_does_not_wait_for_somebody_elses_turn(redis_url: str, namespace: str) -> None:
    settings = Settings(scheduler={"stop_timeout": 0.5}, processor={"checkpoint_interval": 3600})
    broker = RedisStreamsBroker(redis_url, namespace=namespace, settings=settings)
    with leading(broker) as process, turn(broker.logs.links, broker.keys.checkpoints, "a test"):
        began = time.monotonic()
        process.stop()
        assert process.wait(10)
        # 20 s is what a turn is waited for; here until the checkpoint is given up.
        assert time.monotonic() - began < 9
    assert [one.id for one in Checkpoints(broker).list()] == []


def test_a_server_that_refuses_a_standing_schedule_keeps_no_other_from_running(
    own_server: OwnServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = own_server()
    settings = Settings(processor={"checkpoint_interval": 3600})
    broker = RedisStreamsBroker(server.url, namespace=namespace, settings=settings)
    ran = threading.Event()
    kind("ran", lambda context: str(ran.set()))
    schedules = Schedules(broker, who="test")
    schedules.add(Schedule(name="mine", cron="@yearly", kind="ran"))
    with broker.client() as client:
        client.config_set("maxmemory", 1)
        with leading(broker) as process:
            wait_until(lambda: "cannot be made as the settings say" in caplog.text)
            client.config_set("maxmemory", 0)
            schedules.run("mine")
            assert ran.wait(10)
            assert process.health()["connected"] is True
        assert caplog.text.count("cannot be made as the settings say") == 1
