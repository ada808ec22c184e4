"""A message that kills its worker ends as a dead letter; its neighbours are not condemned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from tests.integration.faults.fleet import QUICK, Fleet
from tests.support import wait_until

from streamatiq.broker.process import MAX_DELIVERIES


def _run_until(
    fleet: Fleet, done: Callable[[], bool], *, max_deliveries: int, starts: int = 12
) -> int:
    """Start workers again whenever they die, as a supervisor would; how often that was."""
    constants = {**QUICK, "process.MAX_DELIVERIES": max_deliveries}
    for started in range(1, starts + 1):
        with fleet.workers(threads=4, constants=constants) as workers:
            wait_until(lambda: not workers.running or done(), 15, lambda: workers.log[-3000:])
            if done():
                return started
            workers.kill()
    raise AssertionError(f"not done after {starts} starts")


@pytest.mark.parametrize(
    ("what", "max_deliveries"),
    [
        ("kill", 3),
        pytest.param("kill", MAX_DELIVERIES, marks=pytest.mark.soak),
        pytest.param("exit", MAX_DELIVERIES, marks=pytest.mark.soak),
    ],
)
def test_an_event_that_kills_its_worker(fleet: Fleet, what: str, max_deliveries: int) -> None:
    fleet.publish(range(20), "0.02")
    fleet.publish(range(20, 21), what)
    fleet.publish(range(21, 60), "0.02")
    neighbours = set(range(60)) - {20}

    def done() -> bool:
        return fleet.effects().keys() >= neighbours and bool(
            list(fleet.broker.dead_letters("fleet"))
        )

    starts = _run_until(fleet, done, max_deliveries=max_deliveries)
    (letter,) = fleet.broker.dead_letters("fleet")
    assert (letter.cause, letter.attempts) == ("killed_worker", max_deliveries)
    assert b'"number":20' in letter.data
    assert fleet.effects() == Counter(neighbours)
    assert starts == max_deliveries + 1


@pytest.mark.soak
def test_slow_neighbours_in_other_lanes_are_not_condemned(fleet: Fleet) -> None:
    """The killer and a slow message of each other lane start together, every time."""
    for number, lane in enumerate(("high", "normal", "low")):
        fleet.send(number, "kill" if lane == "normal" else "0.5", lane=lane)

    def done() -> bool:
        letters = list(fleet.broker.dead_letters("messages"))
        return len(letters) + len(fleet.effects()) >= 3

    _run_until(fleet, done, max_deliveries=3)
    assert set(fleet.effects()) == {0, 2}
    assert [letter.cause for letter in fleet.broker.dead_letters("messages")] == ["killed_worker"]
