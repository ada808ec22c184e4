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
    rounds = 3
    with (
        fleet.workers(threads=1, constants=constants) as watching,
        fleet.workers(threads=1, constants=constants) as busy,
    ):
        # Long enough for whoever has the lease to judge.
        threading.Event().wait(3 * constants.get("reclaimer.SILENCE_S", 9.0) / 2)
        for number in range(rounds * 2):
            fleet.publish([number], f"hold {held_s}")
        fleet.wait_for(range(rounds * 2), rounds * held_s * 2 + 10)
        assert fleet.pids() == {watching.worker_pids[0], busy.worker_pids[0]}
        assert "was silent" not in watching.log + busy.log
        assert "was declared dead" not in watching.log + busy.log
    assert fleet.effects() == Counter(range(rounds * 2))
