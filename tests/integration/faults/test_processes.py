"""Worker processes that die, stop and come back, under load."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter

import redis
from tests.integration.faults.fleet import QUICK, Cause, Effect, Fleet
from tests.support import wait_gone, wait_until


def test_a_killed_worker_loses_nothing(fleet: Fleet, figures: list[str]) -> None:
    numbers = range(400)
    with fleet.workers() as one, fleet.workers() as two:
        fleet.publish(numbers, "0.002")
        wait_until(lambda: len(fleet.pids()) == 2)
        one.kill_worker()
        killed_at = time.monotonic()
        fleet.wait_for(numbers)
        recovered_s = time.monotonic() - killed_at
        figures.append(f"400 causes: all handled {recovered_s:.2f} s after the kill -9 of a worker")
        assert recovered_s < 10
        assert fleet.effects() == Counter(numbers)
        assert two.running
        one.kill()


def test_a_stopped_worker_is_fenced_when_it_comes_back(fleet: Fleet, client: redis.Redis) -> None:
    """A zombie: silent for so long that others took its entries, then alive again."""
    numbers = range(60)
    gate = fleet.directory / "gate"
    with fleet.workers(threads=2, constants=QUICK) as zombie:
        fleet.publish(numbers, f"wait {gate}")
        wait_until((fleet.directory / "gate.started").exists)
        held = client.xpending(fleet.source.entries, "fleet")
        assert held["pending"] > 0
        os.kill(zombie.worker_pids[0], signal.SIGSTOP)
        gate.touch()
        with fleet.workers(constants=QUICK) as living:
            fleet.wait_for(numbers, 10)
            assert fleet.pids() == {living.worker_pids[0]}
            os.kill(zombie.worker_pids[0], signal.SIGCONT)
            zombie.wait_for_log("was declared dead while it lived")
            fleet.publish(range(60, 100))
            fleet.wait_for(range(100))
    assert fleet.effects() == Counter(range(100))


def test_a_stopping_worker_finishes_and_hands_back_at_once(
    fleet: Fleet, client: redis.Redis
) -> None:
    gate = fleet.directory / "gate"
    with fleet.workers(threads=1) as stopping:
        # At speed, so that it has taken many entries ahead when one handler stands still.
        fleet.broker.logs.publish_many(
            [Cause(ts_event=1, number=n, what=f"wait {gate}" if n == 500 else "")
            for n in range(1000)]
        )  # fmt: skip
        wait_until((fleet.directory / "gate.started").exists)
        wait_until(lambda: len(fleet.effects()) == 500)
        assert client.xpending(fleet.source.entries, "fleet")["pending"] > 1
        os.kill(stopping.pid, signal.SIGTERM)
        with fleet.workers(threads=1) as other:
            wait_until(lambda: len(fleet.effects()) == 999, 10)
            assert stopping.running
            assert 500 not in fleet.effects()
            gate.touch()
            fleet.wait_for(range(1000))
            assert stopping.wait().returncode == 0
            pids = {e.event.number: e.event.pid for e in fleet.broker.logs.read(Effect)}
            assert pids[500] == stopping.worker_pids[0]
            assert pids[999] == other.worker_pids[0]
    assert fleet.effects() == Counter(range(1000))


def test_an_idle_worker_that_was_declared_dead_reads_under_a_new_name(fleet: Fleet) -> None:
    """Its blocked read goes on under the old one: what that claimed would run for nothing."""
    with fleet.workers(constants=QUICK) as zombie:
        fleet.publish(range(10))
        fleet.wait_for(range(10))
        os.kill(zombie.worker_pids[0], signal.SIGSTOP)
        with fleet.workers(constants=QUICK) as living:
            living.wait_for_log("was silent for")
            os.kill(zombie.worker_pids[0], signal.SIGCONT)
            zombie.wait_for_log("is fenced; going on as")
            fleet.publish(range(10, 60))
            fleet.wait_for(range(60))
            assert "is not committed" not in zombie.log
    assert fleet.effects() == Counter(range(60))


def test_a_second_signal_ends_a_worker_whatever_its_handlers_do(fleet: Fleet) -> None:
    with fleet.workers(threads=1) as stubborn:
        fleet.publish(range(1), f"wait {fleet.directory / 'gate'}")
        wait_until((fleet.directory / "gate.started").exists)
        worker = stubborn.worker_pids[0]
        os.kill(stubborn.pid, signal.SIGINT)
        stubborn.wait_for_log("Stopping worker process")
        os.kill(stubborn.pid, signal.SIGINT)
        stubborn.wait()
        wait_gone(worker)
