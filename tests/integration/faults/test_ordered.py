"""Order through faults: killed, stopped and cut off processes and servers, with real processes.

In each test the log of the emitted events has every number of every key, once and in order, and the
handlers' own ledger shows nothing out of order but what was not committed when its process died.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.integration.faults.fleet import QUICK
from tests.integration.faults.ordered_fleet import NAME, OrderedFleet
from tests.integration.faults.servers import PrivateServer
from tests.support import CuttingProxy, wait_until

from streamatiq.broker.calls import script

KEYS = [f"K{n}" for n in range(18)]

#: Calls whose lost replies only the long form tries.
RARER = ("fetch", "enlist", "XREAD", "claimants")


@pytest.fixture
def fleet(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[OrderedFleet]:
    made = OrderedFleet(redis_url, namespace, tmp_path)
    yield made
    made.close()


def _progress(fleet: OrderedFleet, left: int) -> None:
    """Wait until at most so many of the published events have had no committed effect yet."""
    wait_until(lambda: fleet.effects() >= sum(fleet.published.values()) - left, 15)


def test_a_killed_owners_partitions_go_on_at_another_within_seconds(
    fleet: OrderedFleet, figures: list[str]
) -> None:
    with fleet.workers(threads=4) as one, fleet.workers(threads=4) as two:
        fleet.wait_for_shares(one, two)
        fleet.publish(KEYS, 60, "0.002")
        _progress(fleet, 900)
        fleet.kill(one)
        killed_at = time.monotonic()
        wait_until(lambda: fleet.owned_by(two) == 6)
        took_s = time.monotonic() - killed_at
        fleet.settle()
        assert took_s < 4
        repeated = fleet.check()
        two.stop()
        one.kill()
    figures.append(f"ordered: all partitions of a killed owner taken over in {took_s:.2f} s")
    figures.append(f"ordered: {repeated} of {60 * len(KEYS)} handlings repeated after a kill -9")


def test_an_idle_standby_takes_over_from_a_killed_owner(fleet: OrderedFleet) -> None:
    """Nobody publishes, nobody settles: the one who frees the partitions has to wake the others."""
    with fleet.workers() as one:
        wait_until(lambda: fleet.owned_by(one) == 6)
        with fleet.workers() as two:
            fleet.wait_for_shares(one, two)
            fleet.kill(one)
            killed_at = time.monotonic()
            wait_until(lambda: fleet.owned_by(two) == 6)
            assert time.monotonic() - killed_at < 4
            fleet.publish(KEYS, 2)
            fleet.settle()
            fleet.check()
        one.kill()


def test_a_process_that_is_stopped_for_too_long_is_fenced_and_order_is_kept(
    fleet: OrderedFleet,
) -> None:
    held = fleet.directory / "held"
    with (
        fleet.workers(threads=4, constants=QUICK) as zombie,
        fleet.workers(threads=4, constants=QUICK) as other,
    ):
        fleet.wait_for_shares(zombie, other)
        fleet.publish(KEYS, 1, f"hang {held}")
        fleet.publish(KEYS, 30, "0.001")
        wait_until(lambda: fleet.ledger.stat().st_size > 0)
        pid = zombie.worker_pids[0]
        wait_until(lambda: any(line.pid == pid for line in fleet.lines()))
        os.kill(pid, signal.SIGSTOP)
        fleet.dead.add(pid)
        wait_until(lambda: fleet.owned_by(other) == 6, 15)
        held.touch()
        wait_until(lambda: sum(map(len, fleet.committed().values())) > 200, 15)
        resumed_ns = time.time_ns()
        os.kill(pid, signal.SIGCONT)
        fleet.publish(KEYS, 10, "0.001")
        fleet.settle()
        # It takes a new name, and its share again.
        fleet.wait_for_shares(zombie, other)
        fleet.publish(KEYS, 10)
        fleet.settle()
        log = zombie.log
        committed = fleet.committed()
        assert committed == {key: list(range(51)) for key in KEYS}
        # What it did from then on under its old name was not committed; the ledger cannot tell the
        # names apart, so only what came before is looked at.
        lines = [line for line in fleet.lines() if line.at_ns < resumed_ns]
        for key in KEYS:
            begun = [line.number for line in lines if line.key == key and line.what == "begin"]
            again = [n for n, before in zip(begun[1:], begun, strict=False) if n <= before]
            assert len(again) <= 1
            assert set(again) <= {0}  # what it held when it was stopped
    assert "fenced" in log or "declared dead" in log


@pytest.mark.soak
def test_a_killed_server_that_comes_back(
    private: PrivateServer, namespace: str, tmp_path: Path
) -> None:
    fleet = OrderedFleet(private.url, namespace, tmp_path)
    try:
        with fleet.workers(threads=4) as one, fleet.workers(threads=4) as two:
            fleet.wait_for_shares(one, two)
            for _ in range(3):
                fleet.publish(KEYS, 40, "0.001")
                _progress(fleet, 600)
                private.kill()
                private.start()
                fleet._client = None
            fleet.settle(25)
            fleet.check()
            assert one.running
            assert two.running
    finally:
        fleet.close()


@pytest.mark.parametrize(
    "what",
    [
        "settle",
        "own",
        *(pytest.param(what, marks=pytest.mark.soak) for what in RARER),
    ],
)
def test_lost_replies(fleet: OrderedFleet, proxy: CuttingProxy, what: str) -> None:
    through = {"STREAMATIQ_REDIS__URL": proxy.url}
    match = what.encode() if what.isupper() else script(what).sha.encode()
    with (
        fleet.workers(threads=4, env=through) as one,
        fleet.workers(threads=4, env=through) as two,
    ):
        fleet.wait_for_shares(one, two)
        proxy.cut_reply(match, times=6)
        for _ in range(12):
            fleet.publish(KEYS, 5, "0.0005")
            if what in ("own", "enlist", "claimants"):
                proxy.drop_connections()  # what makes them be called
            _progress(fleet, 40)
        fleet.settle()
        proxy.cut_reply(times=0)
        assert proxy.cuts >= 2
        # No process died: nothing ran twice.
        assert fleet.check() == 0


@pytest.mark.soak
def test_lost_connections_and_scripts(fleet: OrderedFleet) -> None:
    with fleet.workers(threads=4) as one, fleet.workers(threads=4) as two:
        fleet.wait_for_shares(one, two)
        for _ in range(8):
            fleet.publish(KEYS, 10, "0.0005")
            _progress(fleet, 120)
            for client in fleet.client.client_list():
                if str(client["name"]).startswith("streamatiq-"):
                    fleet.client.client_kill_filter(_id=client["id"])
            fleet.client.script_flush()
        fleet.settle()
        assert fleet.check() == 0


@pytest.mark.soak
def test_four_processes_with_failures_and_kills(fleet: OrderedFleet, figures: list[str]) -> None:
    """Handlers fail by chance, processes die, join and leave all the time."""
    env = {"FLEET_FAILS": "0.02"}
    with ExitStack() as stack:
        workers = [stack.enter_context(fleet.workers(threads=4, env=env)) for _ in range(4)]
        fleet.wait_for_shares(*workers)
        for turn in range(3):
            fleet.publish(KEYS, 60, "0.001")
            _progress(fleet, 700)
            fleet.kill(workers[turn])
            workers[turn].wait()
            workers[turn] = stack.enter_context(fleet.workers(threads=4, env=env))
        fleet.publish(KEYS, 20)
        fleet.settle(25)
        repeated = fleet.check()
        assert not list(fleet.broker.dead_letters(NAME))
    figures.append(f"ordered: {repeated} of {200 * len(KEYS)} repeated with 3 kills and failures")
