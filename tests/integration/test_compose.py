"""docker-compose.yml without containers: its commands and health checks, as local processes.

Each process gets the environment of the file, as somebody sets it who has another server, and what
the image sets. Not tried here: the image itself, and what an engine takes away from a container.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import redis
from tests.support import (
    Child,
    DramatiqWorkers,
    Finished,
    start_python,
    wait_until,
)
from tests.support.compose import ROOT, read_services

from streamatiq.broker.connections import Endpoint, Link
from streamatiq.broker.embedded_binary import find_server_binary
from streamatiq.broker.health import MAX_SILENCE_S, Problem
from streamatiq.broker.health_reading import read_health
from streamatiq.broker.keys import Keys
from streamatiq.broker.server import check_server
from streamatiq.scheduler.health import read_scheduler_health

OURS = ("market", "orders", "scheduler")
POOLS = ("market", "orders")

#: What a process that was killed may be silent for before it is a problem (docs/operations.md), and
#: some seconds for a busy machine.
NOTICED_S = 6.5 + 8


class Containers:
    """Runs services of ours as if each were in its container.

    Args:
        folder: the volume of the example's books, and the working directory.
    """

    def __init__(self, url: str, namespace: str, folder: Path) -> None:
        self.services = read_services(
            {
                "STREAMATIQ_REDIS__URL": url,
                "STREAMATIQ_NAMESPACE": namespace,
                "STREAMATIQ_SCHEDULER__HOST": "127.0.0.1",
                "STREAMATIQ_SCHEDULER__PORT": "0",  # any: other tests run beside this one
            }
        )
        self.folder = folder
        self._url, self._namespace = url, namespace
        #: What the Dockerfile sets.
        self._image = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "examples"),
            "PYTHONUNBUFFERED": "1",
            "TRADING_DATA": str(folder),
        }

    def environment(self, name: str) -> dict[str, str]:
        return {**self._image, **self.services[name].environment}

    def start(self, name: str) -> Child:
        """Runs its command."""
        return self._run(name, self.services[name].command)

    def check(self, name: str) -> Finished:
        """Runs its health check, once."""
        with self.start_check(name) as child:
            return child.wait()

    def start_check(self, name: str) -> Child:
        return self._run(name, self.services[name].health_check)

    def wait_healthy(self, name: str, child: Child) -> None:
        def healthy() -> bool:
            assert child.process.poll() is None, child
            return self.check(name).returncode == 0

        wait_until(healthy, 25, lambda: f"a healthy {name}: {self.check(name)}\n{child}")

    def wait_problem(self, name: str) -> None:
        """Waits until a health check will find one.

        By what it calls, not by itself: hundreds of processes would keep others from their work.
        """
        keys, host = Keys(self._namespace), socket.gethostname()
        with closing(Link(Endpoint(self._url))) as link:

            def problems() -> list[Problem]:
                if name == "scheduler":
                    return read_scheduler_health(
                        link, keys.scheduler, max_silence_s=MAX_SILENCE_S, hosts=[host], wanted=True
                    ).problems
                return read_health(link, keys, hosts=[host]).problems

            wait_until(problems, NOTICED_S, lambda: f"a problem of {name}")

    def _run(self, name: str, command: list[str]) -> Child:
        return Child(command, env=self.environment(name), cwd=self.folder)


@pytest.fixture
def containers(redis_url: str, namespace: str, tmp_path: Path) -> Containers:
    return Containers(redis_url, namespace, tmp_path)


def test_all_services_trade_are_healthy_and_end_when_told(containers: Containers) -> None:
    running = {name: containers.start(name) for name in OURS}
    for name, child in running.items():
        containers.wait_healthy(name, child)
    feed = start_python(
        "trading.feed",
        *("--seconds", "1", "--rate", "400"),
        env=containers.environment("market"),
        cwd=containers.folder,
    )
    # Booked by one pool for signals of the other.
    wait_until(lambda: fills(containers.folder), 15, lambda: f"fills: {running}\n{feed}")
    assert feed.wait().returncode == 0, feed
    for child in running.values():
        child.signal(signal.SIGTERM)
    for name, child in running.items():
        ended = child.wait(containers.services[name].stop_grace_s)
        assert ended.returncode == 0, child


def test_what_is_killed_is_found_unhealthy(redis_url: str, namespace: str, tmp_path: Path) -> None:
    # Each in a namespace of its own: here they have one host name, and a check judges all of it.
    apart = {name: Containers(redis_url, f"{namespace}-{name}", tmp_path) for name in OURS}
    running = {name: apart[name].start(name) for name in OURS}
    for name, child in running.items():
        apart[name].wait_healthy(name, child)
    running["scheduler"].kill_group()
    for pool in POOLS:
        workers = DramatiqWorkers(running[pool], processes=1)
        workers.wait_ready(20)
        workers.kill_worker()
        # That the command then ends, and not with 0, is what the restart policy goes by.
        assert workers.wait().returncode != 0, running[pool]
    for name in OURS:
        apart[name].wait_problem(name)
        checked = apart[name].check(name)
        assert checked.returncode == 1, checked
        assert "PROBLEM" in checked.stdout


def test_no_server_is_no_reason_to_restart_ours(namespace: str, tmp_path: Path) -> None:
    away = Containers(f"unix://{tmp_path}/away", namespace, tmp_path)
    checks = [away.start_check(name) for name in OURS]
    for check in checks:
        checked = check.wait()
        assert checked.returncode == 0, checked
        assert checked.stdout.startswith("Not known, which counts as healthy here: ")


def test_the_server_keeps_what_it_was_told_through_a_kill(
    short_temp: Path, open_client: Callable[[str], redis.Redis]
) -> None:
    service = read_services()["redis"]
    at = short_temp / "socket"
    url = f"unix://{at}"
    program, *options = service.command
    assert program == "valkey-server"
    # The options of the file, on a place of this test.
    here = ["--port", "0", "--unixsocket", str(at), "--dir", str(short_temp)]

    def start() -> tuple[Child, redis.Redis]:
        child = Child([str(find_server_binary()), *options, *here])
        client = open_client(url)
        wait_until(lambda: answers(client), 10, lambda: f"an answer of {child}")
        return child, client

    child, client = start()
    for option, value in {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
    }.items():
        assert client.config_get(option) == {option: value}
    with closing(Link(Endpoint(url))) as link:
        check_server(link)  # nothing that workers would refuse
    client.set("key", "value")
    child.kill_group()

    child, client = start()
    assert client.get("key") == b"value"
    child.signal(signal.SIGTERM)
    assert child.wait(service.stop_grace_s).returncode == 0, child
    # Its own health check needs a program that our wheel does not have; this is what it asks.
    assert service.health_check == ["valkey-cli", "-e", "ping"]


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:  # not yet, or still loading
        return False


def fills(folder: Path) -> int:
    """How many the example has booked."""
    book = folder / "risk.sqlite"
    if not book.exists():
        return 0
    with closing(sqlite3.connect(f"file:{book}?mode=ro", uri=True)) as db:
        try:
            return int(db.execute("SELECT count(*) FROM fills").fetchone()[0])
        except sqlite3.OperationalError:  # its tables are being made
            return 0
