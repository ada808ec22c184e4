"""A worker that is killed by -9 is found within two seconds, at whatever age it dies; one that
falls silent within ten."""

from __future__ import annotations

import os
import random
import signal
import statistics
import threading
import time
from contextlib import ExitStack

import pytest
from tests.integration.faults.fleet import Fleet
from tests.support import DramatiqWorkers, wait_until

#: Seconds from the kill until what it held runs elsewhere, where the server shows connections.
WITHIN_S = 2.0
#: So that a process holds one entry at a time.
ONE = {"dramatiq_queue_prefetch": "1"}
#: All of the reclaimer's times, a fifth of what they are.
FIFTH = {
    "heartbeat.BEAT_S": 0.6,
    "heartbeat.LEASE_S": 1.0,
    "reclaimer.SILENCE_S": 1.8,
    "reclaimer.TOUCH_S": 1.2,
}


def _holds(fleet: Fleet, numbers: range) -> None:
    """Two processes of one thread each run one of two events, until its file is made."""
    for number in numbers:
        fleet.publish([number], f"wait {fleet.directory / f'gate{number}'}")
    for number in numbers:
        wait_until((fleet.directory / f"gate{number}.started").exists)


def _trial(
    fleet: Fleet,
    stack: ExitStack,
    old: DramatiqWorkers,
    round_: int,
    rng: random.Random,
    oldest_s: float,
) -> tuple[DramatiqWorkers, float]:
    """Start a second process, kill one of the two at a random age of the young one; returns the
    one that lives, and seconds until it runs what the other held."""
    young = stack.enter_context(fleet.workers(threads=1, env=ONE))
    ready_at = time.monotonic()
    age_s = rng.uniform(0.0, oldest_s)
    numbers = range(2 * round_, 2 * round_ + 2)
    _holds(fleet, numbers)
    # The age is what is tested.
    threading.Event().wait(max(0.0, ready_at + age_s - time.monotonic()))
    victim, keeper = (old, young) if rng.random() < 0.3 else (young, old)
    victim.kill_worker()
    killed_at = time.monotonic()
    for number in numbers:
        (fleet.directory / f"gate{number}").touch()
    wait_until(lambda: set(numbers) <= fleet.effects().keys())
    recovered_s = time.monotonic() - killed_at
    victim.wait()
    return keeper, recovered_s


@pytest.mark.parametrize(
    ("trials", "oldest_s"),
    [(2, 0.3), pytest.param(20, 3.2, marks=[pytest.mark.soak, pytest.mark.timeout(300)])],
)
def test_a_worker_that_dies_young_is_found_within_two_seconds(
    fleet: Fleet, figures: list[str], trials: int, oldest_s: float
) -> None:
    rng = random.Random(trials)
    recovered_s: list[float] = []
    with ExitStack() as stack:
        keeper = stack.enter_context(fleet.workers(threads=1, env=ONE))
        for round_ in range(trials):
            keeper, seconds = _trial(fleet, stack, keeper, round_, rng, oldest_s)
            recovered_s.append(seconds)
    assert set(fleet.effects().values()) == {1}
    figures.append(
        f"kill -9 at {trials} random ages up to {oldest_s} s: what was held runs elsewhere after"
        f" p50 {statistics.median(recovered_s):.2f} s, max {max(recovered_s):.2f} s"
    )
    assert max(recovered_s) < WITHIN_S


SOAK = [pytest.mark.soak, pytest.mark.timeout(120)]


@pytest.mark.parametrize(
    ("constants", "within_s", "stopped"),
    [
        # A fifth, and half a second that the machine may take.
        (FIFTH, 10.0 / 5 + 0.5, "the reclaimer"),
        pytest.param({}, 10.0, "the reclaimer", marks=SOAK),
        pytest.param({}, 10.0, "another", marks=SOAK),
    ],
)
def test_what_a_silent_host_held_runs_elsewhere_within_ten_seconds(
    fleet: Fleet, figures: list[str], constants: dict[str, float], within_s: float, stopped: str
) -> None:
    """A stopped process keeps its connections, as a host does that has lost its power."""
    with (
        fleet.workers(threads=1, env=ONE, constants=constants) as first,
        fleet.workers(threads=1, env=ONE, constants=constants) as second,
    ):
        _holds(fleet, range(2))
        # Long enough for either to judge the other.
        threading.Event().wait(within_s)
        leader = wait_until(lambda: fleet.client.get(fleet.broker.keys.members.lease))
        leads = f":{first.worker_pids[0]}:".encode() in leader
        victim, keeper = (
            (first, second) if leads == (stopped == "the reclaimer") else (second, first)
        )
        os.kill(victim.worker_pids[0], signal.SIGSTOP)
        stopped_at = time.monotonic()
        for number in range(2):
            (fleet.directory / f"gate{number}").touch()
        wait_until(lambda: len(fleet.effects()) == 2, within_s + 5)
        silent_s = time.monotonic() - stopped_at
        assert fleet.pids() == {keeper.worker_pids[0]}
        assert set(fleet.effects().values()) == {1}
        victim.kill()
        keeper.kill()
    figures.append(f"SIGSTOP of {stopped}: what it held ran elsewhere after {silent_s:.2f} s")
    assert silent_s < within_s
