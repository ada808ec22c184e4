"""The helpers of the tests themselves: a helper that cannot fail would hide failures everywhere."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from tests.support import (
    CuttingProxy,
    dramatiq_workers,
    kill_leftovers,
    run_python,
    start_python,
    wait_gone,
    wait_until,
)

from streamatiq.broker.embedded import EmbeddedServer

#: Handlers for plain Dramatiq; the broker is a stock one, since only the helper is under test.
_HANDLERS = """
import os
import dramatiq
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["TEST_URL"], namespace=os.environ["TEST_NS"]))

@dramatiq.actor
def note(text):
    print("noted", text)
"""


def test_wait_until_returns_the_value_and_says_what_is_missing() -> None:
    assert wait_until(lambda: "found", 1.0) == "found"
    with pytest.raises(AssertionError, match=r"within 0.02 s: the moon \(last value: 0\)"):
        wait_until(lambda: 0, 0.02, "the moon")


def test_run_python_returns_output_and_fails_with_it() -> None:
    finished = run_python("import sys; print(sys.argv[1]); sys.exit(3)", "hello", check=False)
    assert (finished.returncode, finished.stdout) == (3, "hello\n")
    with pytest.raises(AssertionError, match="no such thing"):
        run_python("raise SystemExit('no such thing')")
    with pytest.raises(AssertionError, match=r"did not end within 0.2 s"):
        run_python("import threading; threading.Event().wait()", timeout_s=0.2)


def test_run_python_merges_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "1")
    monkeypatch.setenv("TAKEN", "1")
    code = "import os; print(sorted(os.environ.keys() & {'KEPT', 'TAKEN', 'ADDED'}))"
    finished = run_python(code, env={"TAKEN": None, "ADDED": "1"})
    assert finished.stdout == "['ADDED', 'KEPT']\n"


def test_a_child_that_ends_early_is_reported_at_once() -> None:
    child = start_python("print('other')")
    with pytest.raises(AssertionError, match="no line 'ready' and it ended"):
        child.wait_for_line("ready", timeout_s=20)


def test_leftovers_are_killed_with_their_children() -> None:
    code = "import os, threading; os.fork(); print('pid', os.getpid()); threading.Event().wait()"
    child = start_python(code)
    said = wait_until(lambda: child.stdout.count("\n") == 2 and child.stdout)
    kill_leftovers()
    pids = {int(line.removeprefix("pid ")) for line in str(said).splitlines()}
    assert len(pids) == 2
    for pid in pids:
        wait_gone(pid)


def test_wait_gone_fails_for_a_living_process() -> None:
    with pytest.raises(AssertionError, match="still lives"):
        wait_gone(os.getpid(), 0.02)


def test_dramatiq_workers_run_and_stop(tmp_path: Path, redis_url: str, namespace: str) -> None:
    (tmp_path / "notes.py").write_text(_HANDLERS)
    env = {"TEST_URL": redis_url, "TEST_NS": namespace}
    with dramatiq_workers("notes", processes=2, env=env, cwd=tmp_path) as workers:
        assert len(set(workers.worker_pids)) == 2
        assert workers.pid not in workers.worker_pids
        run_python("import notes; notes.note.send('hello')", env=env, cwd=tmp_path)
        workers.wait_for_log("noted hello")
        assert workers.stop() == 0
    for pid in workers.worker_pids:
        wait_gone(pid, 0.1)


def test_a_killed_worker_is_gone(tmp_path: Path, redis_url: str, namespace: str) -> None:
    (tmp_path / "notes.py").write_text(_HANDLERS)
    env = {"TEST_URL": redis_url, "TEST_NS": namespace}
    with dramatiq_workers("notes", env=env, cwd=tmp_path) as workers:
        workers.kill_worker()
        assert workers.wait().returncode != 0


def test_workers_that_do_not_start_fail_with_their_log(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('broken on purpose')")
    with (
        pytest.raises(AssertionError, match="broken on purpose"),
        dramatiq_workers("broken", cwd=tmp_path),
    ):
        pytest.fail("started")


def test_the_proxy_cuts_the_reply_of_a_request_that_was_done(
    proxy: CuttingProxy,
    client: redis.Redis,
    namespace: str,
    open_client: Callable[[str], redis.Redis],
) -> None:
    key = f"{namespace}:counter"
    through = open_client(proxy.url)
    through.set_retry(Retry(NoBackoff(), 0))
    proxy.cut_reply(b"INCR", after=1)
    assert through.incr(key) == 1
    assert through.get(key) == b"1"
    with pytest.raises(redis.ConnectionError):
        through.incr(key)
    assert proxy.cuts == 1
    assert client.get(key) == b"2"


def test_the_proxy_keeps_the_first_bytes(server: EmbeddedServer) -> None:
    with CuttingProxy(server.tcp_url) as proxy:
        proxy.cut_reply(keep_bytes=3)
        port = int(proxy.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"*1\r\n$4\r\nPING\r\n")
            assert raw.recv(100) == b"+PO"
            assert raw.recv(100) == b""
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(b"*1\r\n$4\r\nPING\r\n")
            assert raw.recv(100) == b"+PONG\r\n"
            proxy.drop_connections()
            assert raw.recv(100) == b""


def test_own_servers_are_private(own_server: Callable[..., EmbeddedServer], redis_url: str) -> None:
    one, two = own_server("one"), own_server("two")
    assert len({one.url, two.url, redis_url}) == 3
