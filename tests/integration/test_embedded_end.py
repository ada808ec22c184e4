"""Who ends the embedded server, by whatever death, and who does not."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest
import redis
from tests.support import run_python, start_python, wait_gone
from tests.support.embedded import OpenClient, ensured, start_ensurer

from streamatiq.broker.embedded import EmbeddedServer
from streamatiq.errors import EmbeddedServerError


def test_kill_of_the_owner_ends_the_server_and_keeps_the_data(
    data_dir: Path, open_client: OpenClient
) -> None:
    owner = start_ensurer(data_dir)
    owner.tell("go")
    pid, owned = ensured(owner)
    assert owned
    adopted = EmbeddedServer.ensure(data_dir)
    open_client(adopted.url).xadd("log", {"n": "1"})
    owner.signal(signal.SIGKILL)
    wait_gone(pid, 2.0)
    with EmbeddedServer.ensure(data_dir) as again:
        assert again.owned
        assert open_client(again.url).xlen("log") == 1


def test_a_server_that_is_about_to_end_is_not_adopted(
    data_dir: Path, open_client: OpenClient
) -> None:
    """It answers for a while after its owner was killed; whoever adopted it would lose it."""
    owner = start_ensurer(data_dir)
    owner.tell("go")
    pid, _ = ensured(owner)
    owner.signal(signal.SIGKILL)
    wait_gone(owner.pid)
    with EmbeddedServer.ensure(data_dir) as successor:
        assert successor.owned
        assert successor.pid != pid
        assert open_client(successor.url).ping()


def test_a_server_whose_owner_is_out_of_sight_is_adopted(data_dir: Path) -> None:
    with EmbeddedServer.ensure(data_dir) as server:
        gone = start_python("")
        gone.wait()
        info = json.loads((data_dir / "server.json").read_text())
        (data_dir / "server.json").write_text(json.dumps({**info, "owner_pid": gone.pid}))
        adopted = EmbeddedServer.ensure(data_dir)
        assert adopted.pid == server.pid
        assert not adopted.owned


def test_a_server_that_cannot_be_asked_is_stopped_by_signal(data_dir: Path) -> None:
    with EmbeddedServer.ensure(data_dir) as server:
        with redis.Redis.from_url(server.url) as client:
            client.acl_setuser("default", enabled=True, commands=["-shutdown"])
        server.stop()
    assert "Received SIGTERM" in (data_dir / "server.log").read_text()


def test_the_exit_of_the_owner_ends_the_server(data_dir: Path) -> None:
    owner = start_ensurer(data_dir)
    owner.tell("go")
    pid, _ = ensured(owner)
    assert owner.wait().returncode == 0
    wait_gone(pid, 0.1)  # the exit hook waited for it
    assert "ready to exit" in (data_dir / "server.log").read_text()


def test_the_end_of_the_calling_thread_does_not_end_the_server(
    data_dir: Path, open_client: OpenClient
) -> None:
    found: list[EmbeddedServer] = []
    thread = threading.Thread(target=lambda: found.append(EmbeddedServer.ensure(data_dir)))
    thread.start()
    thread.join()
    with found[0] as server:
        assert open_client(server.url).ping()
        with pytest.raises(AssertionError, match="still lives"):
            wait_gone(server.pid, 0.2)


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(data_dir: Path) -> None:
    with EmbeddedServer.ensure(data_dir) as server:
        assert os.getsid(server.pid) != os.getsid(0)


def test_a_forked_child_neither_owns_nor_stops_it(data_dir: Path) -> None:
    finished = run_python(
        """
import os, sys
from streamatiq.broker.embedded import EmbeddedServer
server = EmbeddedServer.ensure(sys.argv[1])
child = os.fork()
if child == 0:
    print("child", server.owned)
    server.stop()
    second = EmbeddedServer.ensure(sys.argv[1] + "-child")  # its own spawning thread works
    print("second", second.owned)
    sys.exit(0)
print("status", os.waitpid(child, 0)[1])
print("parent", server.owned, EmbeddedServer.ensure(sys.argv[1]).pid == server.pid)
""",
        str(data_dir),
    )
    assert finished.stdout.splitlines() == [
        "child False",
        "second True",
        "status 0",
        "parent True True",
    ]


def test_a_parent_that_dies_at_once_leaves_nothing(data_dir: Path) -> None:
    """The signal cannot come if the parent is dead before it is asked for: the stub looks."""
    data_dir.mkdir()
    code = """
import json, os, sys
from streamatiq.broker import embedded_start as start
spec = {"parent_pid": 1, "data_dir": sys.argv[1], "lock": "server.lock"}
os.execv(sys.executable, [sys.executable, str(start._STUB), json.dumps(spec)])
"""
    finished = run_python(code, str(data_dir), check=False)
    assert finished.returncode == 70
    assert finished.stderr == "the starting process 1 is gone\n"
    assert list(data_dir.iterdir()) == []


def test_a_server_that_does_not_stop_is_killed_and_reported(data_dir: Path) -> None:
    server = EmbeddedServer.ensure(data_dir)
    os.kill(server.pid, signal.SIGSTOP)
    with pytest.raises(EmbeddedServerError, match=r"did not stop within 0.1 s and was killed"):
        server.stop(timeout_s=0.1)
    wait_gone(server.pid, 0.1)
    server.stop()
