"""Servers that die, hang, forget their scripts or drop connections under load: workers come back
without a restart of theirs, nothing is lost, every cause has one committed effect."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from tests.conftest import OwnServer
from tests.integration.faults.fleet import Fleet
from tests.integration.faults.servers import Load, PrivateServer
from tests.integration.logs.harness import Bench, Echo, Note, note, texts
from tests.support import wait_until
from tests.support.dramatiq_cli import DramatiqWorkers
from tests.support.processes import Child


def test_a_killed_server_under_load(private: PrivateServer, private_fleet: Fleet) -> None:
    fleet = private_fleet
    with fleet.workers() as one, fleet.workers() as two:
        pids = {one.worker_pids[0], two.worker_pids[0]}
        with Load(fleet) as load:
            for round_ in range(1, 3):
                wait_until(lambda n=round_ * 200: load.published >= n)
                fleet.wait_for_effects(round_ * 100)
                private.kill()
                private.start()
            wait_until(lambda: load.published >= 600)
        numbers = load.stop()
        fleet.wait_for(numbers)
        assert fleet.effects() == Counter(numbers)
        assert {one.worker_pids[0], two.worker_pids[0]} == pids
        assert one.running
        assert two.running
        # Both work on: neither was declared dead, and neither sits on what it had.
        fleet.publish(range(10_000, 10_200), "0.01")
        fleet.wait_for([*numbers, *range(10_000, 10_200)])
        assert "was declared dead" not in one.log + two.log
        assert fleet.pids() == pids


def test_messages_survive_a_killed_server(private: PrivateServer, private_fleet: Fleet) -> None:
    fleet = private_fleet
    with fleet.workers(threads=4) as workers:
        for number in range(300):
            fleet.send(number, "0.005")
        fleet.wait_for_effects(50)
        private.kill()
        private.start()
        wait_until(lambda: fleet.effects().keys() == set(range(300)), 20)
        wait_until(lambda: fleet.broker.backlog("messages") == 0)
        assert workers.running
    assert list(fleet.broker.dead_letters("messages")) == []


@pytest.mark.parametrize("how", ["hangs", "is down"])
def test_an_outage_longer_than_a_living_process_may_be_silent_kills_nobody(
    open_bench: Callable[..., Bench],
    private: PrivateServer,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """All were silent, since none could be heard: whoever is heard first must not bury the rest."""
    monkeypatch.setattr("streamatiq.broker.heartbeat.BEAT_S", 0.1)
    monkeypatch.setattr("streamatiq.broker.heartbeat.LEASE_S", 0.3)
    monkeypatch.setattr("streamatiq.broker.reclaimer.SILENCE_S", 0.5)
    monkeypatch.setattr("streamatiq.broker.reclaimer.TOUCH_S", 0.4)
    benches = [open_bench(private.url) for _ in range(3)]
    for bench in benches:
        bench.on(Note, name="silent")(lambda event: Echo(ts_event=2, text=event.text))
        bench.start(threads=1)
    benches[0].logs.publish(note("before"))
    benches[0].echoes(1)
    processes = [bench.broker._consuming() for bench in benches]
    names = [process.identity.consumer for process in processes]
    alive = benches[0].keys.members.alive
    with benches[0].broker.client() as client:
        wait_until(lambda: client.hlen(alive) == 3)
    if how == "hangs":
        os.kill(private.pid, signal.SIGSTOP)
    else:
        private.kill()
    threading.Event().wait(1.0)  # the outage itself
    if how == "hangs":
        os.kill(private.pid, signal.SIGCONT)
    else:
        private.start()
    benches[0].logs.publish_many([note(n) for n in range(50)])
    assert sorted(benches[0].echoes(51)) == sorted(["before", *map(str, range(50))])

    def beaten() -> bool:
        with benches[0].broker.client() as client:
            return set(names) <= {one.decode() for one in client.hkeys(alive)}

    wait_until(beaten, what="all three are listed again under their names")
    benches[0].settled("silent")
    assert [process.identity.consumer for process in processes] == names


def test_a_worker_started_while_the_server_is_down(
    own_server: OwnServer, namespace: str, tmp_path: Path
) -> None:
    """It tries as often as the settings say; here a listener that drops everybody is the server
    that is down, since it shows that the worker has tried."""
    with socket.create_server(("127.0.0.1", 0)) as down:
        port = down.getsockname()[1]
        fleet = Fleet(f"redis://127.0.0.1:{port}", namespace, tmp_path)
        env = {
            **fleet.env,
            "STREAMATIQ_REDIS__RETRY_DELAY": "0.2",
            "STREAMATIQ_REDIS__MAX_RETRIES": "20",
        }
        command = str(Path(sys.executable).with_name("dramatiq"))
        child = Child(
            [command, "--processes", "1", "--threads", "2", "fleet_handlers"],
            env=env,
            cwd=tmp_path,
        )
        down.settimeout(10)
        for _ in range(2):
            down.accept()[0].close()
    own_server("late", port=port)
    workers = DramatiqWorkers(child, 1)
    workers.wait_ready(10)
    fleet.publish(range(20))
    fleet.wait_for(range(20))
    assert workers.stop() == 0
    fleet.close()


@pytest.mark.soak
def test_scripts_flushed_under_load(fleet: Fleet) -> None:
    with fleet.workers() as one, fleet.workers() as two, Load(fleet) as load:
        for round_ in range(1, 11):
            fleet.client.script_flush()
            wait_until(lambda n=round_ * 20: load.published >= n)
        numbers = load.stop()
        fleet.wait_for(numbers)
        assert fleet.effects() == Counter(numbers)
        assert "ERROR" not in one.log + two.log


@pytest.mark.soak
def test_connections_killed_under_load(private_fleet: Fleet) -> None:
    fleet = private_fleet
    with fleet.workers() as one, fleet.workers() as two, Load(fleet) as load:
        with fleet.broker.client() as killer:
            for round_ in range(1, 16):
                wait_until(lambda n=round_ * 20: load.published >= n)
                killer.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        numbers = load.stop()
        fleet.wait_for(numbers)
        assert fleet.effects() == Counter(numbers)
        assert one.running
        assert two.running
        assert "was declared dead" not in one.log + two.log


def test_a_stream_deleted_under_load(fleet: Fleet) -> None:
    """What it held is gone, by an operator's hand; what is published afterwards is handled."""
    with fleet.workers() as one, Load(fleet) as load:
        for round_ in range(1, 4):
            wait_until(lambda n=round_ * 100: load.published >= n)
            fleet.client.delete(fleet.source.entries)
        deleted_at = load.published
        wait_until(lambda: load.published >= deleted_at + 200)
        numbers = load.stop()
        fleet.wait_for(numbers[deleted_at + 1 :])
        effects = fleet.effects()
        assert set(effects.values()) == {1}
        assert len(effects) > deleted_at // 2
        assert one.running


def test_a_vanished_settle_script_is_no_lost_connection(bench: Bench, client: redis.Redis) -> None:
    """The batch that meets an unknown script is sent once more, whole, under its number."""
    seen: list[str] = []

    @bench.on(Note, name="flushed")
    def flushed(event: Note) -> Echo:
        seen.append(event.text)
        client.script_flush()
        return Echo(ts_event=2, text=event.text)

    bench.start(threads=1)
    bench.logs.publish_many([note(n) for n in range(50)])
    found = bench.echoes(50)
    bench.settled("flushed")
    assert found == seen == texts(bench.read(Note))
