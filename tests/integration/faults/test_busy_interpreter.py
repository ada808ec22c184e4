"""A handler that keeps the interpreter's lock keeps its process from beating: not yet its death."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

import pytest
from tests.integration.faults.fleet import Fleet

#: All of the reclaimer's times, a sixth of what they are.
SIXTH = {
    "heartbeat.BEAT_S": 0.5,
    "heartbeat.LEASE_S": 0.84,
    "reclaimer.SILENCE_S": 1.5,
    "reclaimer.TOUCH_S": 1.0,
}


@pytest.mark.parametrize(
    ("constants", "held_s"),
    [
        (SIXTH, 0.6),
        pytest.param({}, 5.0, marks=[pytest.mark.soak, pytest.mark.timeout(120)]),
    ],
)
def test_nothing_is_taken_from_a_process_whose_handlers_keep_the_lock(
    fleet: Fleet, constants: Mapping[str, float], held_s: float
) -> None:
    numbers = range(3)
    idle = ("--queues", "messages", "--")  # it reads the other queue, and can judge all the time
    with (
        fleet.workers(threads=1, constants=constants, args=idle) as watching,
        fleet.workers(threads=1, constants=constants) as busy,
    ):
        # Long enough for the one that watches to judge.
        threading.Event().wait(1.2 * constants.get("reclaimer.SILENCE_S", 9.0))
        assert f":{watching.worker_pids[0]}:".encode() in _leader(fleet)
        fleet.publish(numbers, f"hold {held_s}")
        fleet.wait_for(numbers, len(numbers) * held_s + 10)
        assert "was silent" not in watching.log
        assert "was declared dead" not in busy.log
        assert fleet.pids() == {busy.worker_pids[0]}
    assert fleet.effects() == Counter(numbers)


def _leader(fleet: Fleet) -> bytes:
    """Who looks for dead processes."""
    return fleet.client.get(fleet.broker.keys.members.lease) or b""
