"""A server at maxmemory: publishing fails clearly, what runs is settled, and workers go on reading,
since only that can free memory. Nothing is lost, and all goes on once there is room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from tests.integration.faults.fleet import Fleet
from tests.support import wait_until

from streamatiq.errors import OutOfMemory


@contextmanager
def _full(client: redis.Redis) -> Iterator[None]:
    """Less memory is allowed than is in use."""
    client.config_set("maxmemory", "1mb")
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        client.set("fill", 1)
    yield
    client.config_set("maxmemory", "0")


def test_settles_go_on_and_publishing_fails_clearly(private_fleet: Fleet) -> None:
    fleet = private_fleet
    gate = fleet.directory / "gate"
    with fleet.workers(threads=2) as workers:
        fleet.publish(range(10))
        fleet.wait_for(range(10))
        fleet.publish(range(10, 11), f"wait {gate}")
        fleet.publish(range(11, 100))
        for number in range(100, 120):
            fleet.send(number, f"wait {gate}")
        wait_until((fleet.directory / "gate.started").exists)
        with _full(fleet.client):
            with pytest.raises(OutOfMemory, match=r"maxmemory.*nothing was stored"):
                fleet.publish(range(900, 901))
            with pytest.raises(OutOfMemory):
                fleet.send(901)
            gate.touch()
            # The events' effects are committed with their settle; the messages' effects are
            # published by their handlers, refused, and retried.
            fleet.wait_for(range(100))
            assert fleet.effects() == Counter(range(100))
        fleet.publish(range(200, 210))
        fleet.wait_for([*range(120), *range(200, 210)])
        wait_until(lambda: fleet.broker.backlog("messages") == 0)
        assert fleet.effects() == Counter([*range(120), *range(200, 210)])
        assert workers.running
    assert list(fleet.broker.dead_letters("fleet")) == []


def test_a_worker_that_reconnects_at_maxmemory_goes_on(private_fleet: Fleet) -> None:
    fleet = private_fleet
    gate = fleet.directory / "gate"
    with fleet.workers(threads=2):
        fleet.publish(range(10))
        fleet.wait_for(range(10))
        fleet.publish(range(10, 12), f"wait {gate}")
        fleet.publish(range(12, 200))
        wait_until((fleet.directory / "gate.started").exists)
        with _full(fleet.client), fleet.broker.client() as killer:
            killer.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            gate.touch()
            fleet.wait_for(range(200), 8)
    assert fleet.effects() == Counter(range(200))


def test_a_worker_that_is_started_at_maxmemory_works(private_fleet: Fleet) -> None:
    """Its groups and logs exist: it has nothing to store but effects."""
    fleet = private_fleet
    with fleet.workers(threads=2):
        fleet.publish(range(10))
        fleet.wait_for(range(10))
    fleet.publish(range(10, 60))
    with _full(fleet.client), fleet.workers(threads=2):
        fleet.wait_for(range(60), 8)
    assert fleet.effects() == Counter(range(60))
    assert list(fleet.broker.dead_letters("fleet")) == []
