"""`streamatiq health` and `dead` where nothing is, or no server: nothing is started for a look."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
from tests.conftest import OwnServer

from streamatiq.broker.health import ProcessHealth, QueueHealth, State, encode_record
from streamatiq.broker.keys import Keys
from streamatiq.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, namespace: str
) -> Iterator[Run]:
    """Runs the command line in this process, on the server at a URL and this test's namespace."""
    monkeypatch.setenv("STREAMATIQ_NAMESPACE", namespace)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run(url: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setenv("STREAMATIQ_REDIS__URL", url)
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def record(client: redis.Redis, keys: Keys, health: ProcessHealth | None, pid: int) -> None:
    """A process that beats now."""
    text = b"" if health is None else encode_record(health)
    beat = b"%d run 1 %s" % (time.time() * 1000, text)
    client.hset(keys.members.alive, f"host:{pid}:token", beat)


def test_that_no_process_is_known_is_a_problem(
    run: Run, own_server: OwnServer, namespace: str
) -> None:
    server = own_server(port=0)
    port = server.tcp_url.rpartition(":")[2]
    url = f"redis://default:geheim@127.0.0.1:{port}/7"
    with redis.Redis.from_url(server.tcp_url) as client:
        client.config_set("requirepass", "geheim")
    code, out, err = run(url, "health")
    assert (code, err) == (1, "")
    assert out == (
        f"PROBLEM  No worker process is known in namespace {namespace!r} on "
        f"redis://***@127.0.0.1:{port}/7. Start one, or look whether namespace and redis.url are "
        "those of the workers.\n"
    )
    code, out, _ = run(url, "health", "--json")
    assert code == 1
    assert len(json.loads(out)["problems"]) == 1
    code, out, _ = run(url, "health", "--pid", "1")
    assert code == 1
    assert out.count("PROBLEM") == 1


def test_what_a_process_without_queues_does(
    run: Run, redis_url: str, client: redis.Redis, namespace: str
) -> None:
    keys = Keys(namespace)
    process = ProcessHealth("host:1:token")
    queue = QueueHealth("mail", State.READING, 0, 0, 0.0, 0.0, 0.0, True, True)
    record(client, keys, process, 1)
    record(client, keys, replace(process, threads=8, threads_alive=8), 2)
    record(client, keys, None, 3)
    record(client, keys, replace(process, queues=[queue]), 4)
    code, out, err = run(redis_url, "health")
    assert (code, err) == (0, ""), out
    states = [line.split()[-2] for line in out.splitlines()[1:5]]
    assert states == ["stopping", "starting", "starting", "reading"]
    assert out.endswith("\nHealthy: 4 processes, 0 queues.\n")
    _, out, _ = run(redis_url, "health", "--pid", "4")
    assert out.endswith("\nHealthy: 1 process, 0 queues.\n")


def test_a_server_that_workers_would_refuse_is_a_problem(
    run: Run, own_server: OwnServer, open_client: Callable[[str], redis.Redis], namespace: str
) -> None:
    server = own_server()
    client = open_client(server.url)
    client.config_set("maxmemory-policy", "allkeys-lru")
    record(client, Keys(namespace), ProcessHealth("host:1:token"), 1)
    code, out, _ = run(server.url, "health")
    assert code == 1
    assert f"PROBLEM  {server.url} has maxmemory-policy 'allkeys-lru', which may" in out
    assert "Run CONFIG SET maxmemory-policy noeviction" in out
    assert out.count("PROBLEM") == 1


@pytest.mark.parametrize("command", ["health", "dead"])
def test_no_embedded_server_is_begun_for_a_look(run: Run, tmp_path: Path, command: str) -> None:
    wrong = tmp_path / "wrong" / "data"
    code, out, err = run(f"embedded://{wrong}", command)
    assert (code, out) == (1, "")
    assert err.startswith(f"streamatiq: error: No embedded server has been started at {wrong}. ")
    assert not wrong.parent.exists()
    wrong.mkdir(parents=True)
    assert run(f"embedded://{wrong}", command)[0] == 1
    assert list(wrong.iterdir()) == []


def test_an_embedded_server_is_looked_at_while_it_runs(
    run: Run, own_server: OwnServer, tmp_path: Path
) -> None:
    server = own_server("data")
    url = f"embedded://{tmp_path / 'data'}"
    code, out, _ = run(url, "health")
    assert code == 1
    assert f"on {url}. Start one" in out
    server.stop()
    for outage_ok, expected in (((), 1), (("--outage-ok",), 0)):
        code, out, err = run(url, "health", *outage_ok)
        assert code == expected
        assert f"The embedded server at {tmp_path / 'data'} is not running" in out + err
    # Dead letters are data: they may be looked at while no worker runs.
    code, out, err = run(url, "dead")
    assert (code, err) == (0, "")
    assert out.startswith("No queue or subscription is known in namespace ")
