"""A minute of one kind of fault under load: nothing lost, every cause with one committed effect.

The figures are shown at the end of the run."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.integration.faults.fleet import Fleet
from tests.integration.faults.servers import Load, PrivateServer
from tests.support import CuttingProxy, DramatiqWorkers, wait_until

from streamatiq.broker.calls import script

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]

#: Seconds of faults.
LASTS_S = 60.0
#: Seconds in which all that is left must be handled once the faults are over.
DRAIN_S = 40.0
#: What a handler does with each cause: it takes so many seconds.
WORK = "0.004"


def _until_over() -> Iterator[float]:
    """Seconds that have passed, until the faults are over."""
    begun_at = time.monotonic()
    while (passed := time.monotonic() - begun_at) < LASTS_S:
        yield passed


def _report(
    figures: list[str], kind: str, fleet: Fleet, numbers: range, recovered_s: list[float]
) -> None:
    effects = fleet.effects()
    lost = set(numbers) - effects.keys()
    doubled = [number for number, count in effects.items() if count > 1]
    figures.append(
        f"{kind:<24} {len(numbers):>6} events {len(lost):>3} lost {len(doubled):>3} doubled"
        f" {len(recovered_s):>4} faults, recovery p50 {statistics.median(recovered_s):.2f} s,"
        f" max {max(recovered_s):.2f} s"
    )
    assert not lost
    assert not doubled


def _consumers(fleet: Fleet) -> set[bytes]:
    infos: Any = fleet.client.xinfo_consumers(fleet.source.entries, "fleet")
    return {one["name"] for one in infos}


def _consumer_of(fleet: Fleet, pid: int) -> bytes | None:
    """None before its first read."""
    return next((one for one in _consumers(fleet) if f":{pid}:".encode() in one), None)


def test_killed_workers(fleet: Fleet, figures: list[str]) -> None:
    """One of three is killed by -9 about every two seconds, and started again by a supervisor."""
    rng = random.Random(1)
    recovered_s: list[float] = []
    with ExitStack() as stack:
        workers: list[DramatiqWorkers] = [
            stack.enter_context(fleet.workers(threads=4)) for _ in range(3)
        ]
        with Load(fleet, pause_s=0.005, what=WORK) as load:
            for _ in _until_over():
                chosen = rng.randrange(3)
                victim = workers[chosen]
                name = wait_until(lambda v=victim: _consumer_of(fleet, v.worker_pids[0]))
                victim.kill_worker()
                killed_at = time.monotonic()
                wait_until(lambda n=name: n not in _consumers(fleet), 15)
                recovered_s.append(time.monotonic() - killed_at)
                victim.wait()
                workers[chosen] = stack.enter_context(fleet.workers(threads=4))
            numbers = load.stop()
        fleet.wait_for(numbers, DRAIN_S)
    assert max(recovered_s) < 10
    _report(figures, "kill -9 of workers", fleet, numbers, recovered_s)


def test_lost_replies(fleet: Fleet, proxy: CuttingProxy, figures: list[str]) -> None:
    """Replies of any script, whole or in the middle, are lost a few times a second."""
    rng = random.Random(2)
    matches = [b"XREADGROUP", *(script(name).sha.encode() for name in ("settle", "fetch"))]
    recovered_s: list[float] = []
    through = {"STREAMATIQ_REDIS__URL": proxy.url}
    with (
        fleet.workers(threads=4, env=through) as one,
        fleet.workers(threads=4, env=through) as two,
        Load(fleet, pause_s=0.025, what=WORK, burst=5) as load,
    ):
        for _ in _until_over():
            cuts = proxy.cuts
            proxy.cut_reply(
                rng.choice(matches),
                after=rng.randrange(6),
                times=rng.randrange(1, 4),
                keep_bytes=rng.choice((0, 0, 1, 7)),
            )
            wait_until(lambda n=cuts: proxy.cuts > n, 15)
            cut_at = time.monotonic()
            published = load.published
            wait_until(lambda n=published: load.published > n + 40)
            fleet.wait_for_effects(published)
            recovered_s.append(time.monotonic() - cut_at)
        proxy.cut_reply(times=0)
        numbers = load.stop()
        fleet.wait_for(numbers, DRAIN_S)
        assert one.running
        assert two.running
    _report(figures, "lost replies", fleet, numbers, recovered_s)


def test_killed_servers(private: PrivateServer, private_fleet: Fleet, figures: list[str]) -> None:
    """The server is killed by -9 about every ten seconds and started again."""
    fleet = private_fleet
    recovered_s: list[float] = []
    with (
        fleet.workers(threads=4) as one,
        fleet.workers(threads=4) as two,
        Load(fleet, pause_s=0.005, what=WORK) as load,
    ):
        pids = one.worker_pids + two.worker_pids
        for passed in _until_over():
            wait_until(lambda n=load.published: load.published >= n + 1_000, 30)
            private.kill()
            private.start()
            up_at = time.monotonic()
            fleet.wait_for_effects(load.published)
            recovered_s.append(time.monotonic() - up_at)
            assert passed < LASTS_S
        numbers = load.stop()
        fleet.wait_for(numbers, DRAIN_S)
        assert one.worker_pids + two.worker_pids == pids
        assert one.running
        assert two.running
    _report(figures, "kill -9 of the server", fleet, numbers, recovered_s)
