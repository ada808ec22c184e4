"""What idle processes ask of the server, by its own count, which includes commands in scripts."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from tests.integration.faults.fleet import Fleet
from tests.integration.faults.servers import PrivateServer
from tests.support import wait_until

#: Commands a second: of a process, and of each queue that it reads (one of them a work queue).
PROCESS, QUEUE = 3.0, 1.0
#: All intervals, a twentieth of what they are.
SHORT = {
    "heartbeat.BEAT_S": 0.15,
    "heartbeat.LEASE_S": 0.25,
    "reclaimer.SILENCE_S": 3.0,  # more than its part: this is no test of deaths
    "reclaimer.LOOK_S": 0.05,
    "reclaimer.BELIEVE_S": 0.025,
    "reclaimer.SWEEP_S": 3.0,
    "arrivals.BLOCK_MS": 500,
    "reader.BLOCK_MS": 400,
    "reader.COMPARE_S": 3.0,
    "waiting_work.A_QUEUE": 8.0,
    "waiting_work.LONGEST_S": 3.0,
}


def _commands(client: redis.Redis) -> int:
    stats: dict[str, Any] = client.info("commandstats")
    return sum(one["calls"] for name, one in stats.items() if name != "cmdstat_info")


@pytest.mark.parametrize("metrics", [False, True], ids=["plain", "metrics"])
@pytest.mark.parametrize(
    ("constants", "faster", "lasts_s"),
    [
        (SHORT, 20, 3.2),
        pytest.param({}, 1, 60.0, marks=[pytest.mark.soak, pytest.mark.timeout(180)]),
    ],
)
def test_idle_processes_ask_little(
    private: PrivateServer,
    private_fleet: Fleet,
    figures: list[str],
    constants: dict[str, float],
    faster: int,
    lasts_s: float,
    metrics: bool,
) -> None:
    fleet = private_fleet
    processes = 2
    env = {"FLEET_METRICS": str(5.0 / faster), "STREAMATIQ_METRICS_PORT": "0"} if metrics else {}
    with ExitStack() as stack:
        for _ in range(processes):
            stack.enter_context(fleet.workers(constants=constants, env=env))
        fleet.publish(range(10))
        fleet.wait_for(range(10))
        lives = fleet.broker.keys.members.alive
        wait_until(lambda: fleet.client.hlen(lives) == processes)
        begun, begun_at = _commands(fleet.client), time.monotonic()
        wait_until(lambda: time.monotonic() - begun_at >= lasts_s, lasts_s + 5)
        asked = _commands(fleet.client) - begun
        passed_s = time.monotonic() - begun_at
    a_second = asked / passed_s / faster
    figures.append(
        f"{processes} idle processes of 2 queues each: {a_second:.2f} commands/s in all"
        f" ({'a minute' if faster == 1 else 'intervals a twentieth'}"
        f"{', one exports what waits' if metrics else ''})"
    )
    assert a_second <= processes * (PROCESS + 2 * QUEUE)
