"""The embedded server with real processes: what it keeps, and one server a directory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import threading
from pathlib import Path

import pytest
from tests.support import run_python, wait_gone, wait_until
from tests.support.embedded import OpenClient, ensured, lock_is_free, start_ensurer

from streamatiq.broker import embedded_start
from streamatiq.broker.embedded import EmbeddedServer

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
    racers = [start_ensurer(data_dir) for _ in range(2)]
    for racer in racers:
        racer.tell("go")
    found = [ensured(racer) for racer in racers]
    assert len({pid for pid, _ in found}) == 1
    assert sorted(owned for _, owned in found) == [False, True]


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
        assert not lock_is_free(data_dir)
        os.kill(server.pid, signal.SIGKILL)
        wait_gone(server.pid)
        assert lock_is_free(data_dir)


def test_a_start_waits_for_the_old_server_to_end(sleeping_server: EmbeddedServer) -> None:
    successor = start_ensurer(sleeping_server.data_dir)
    successor.tell("go")
    # It is waiting when its child is: the one that will become the server.
    children = Path(f"/proc/{successor.pid}/task")
    wait_until(lambda: any(task.joinpath("children").read_text() for task in children.iterdir()))
    assert successor.stdout == "ready\n"
    os.kill(sleeping_server.pid, signal.SIGKILL)
    pid, owned = ensured(successor)
    assert owned
    assert pid != sleeping_server.pid


@pytest.mark.parametrize("name", ["data", "long" * 30])
@pytest.mark.usefixtures("short_temp")
def test_a_copied_directory_gets_a_server_of_its_own(
    tmp_path: Path, name: str, open_client: OpenClient
) -> None:
    """Above all where the copied info file names the socket of the original by a full path."""
    with EmbeddedServer.ensure(tmp_path / name) as server:
        copy = tmp_path / f"{name}-copy"
        shutil.copytree(server.data_dir, copy, ignore=shutil.ignore_patterns("server.sock"))
        with EmbeddedServer.ensure(copy) as second:
            assert second.owned
            assert second.pid != server.pid
            assert open_client(second.url).config_get("dir")["dir"] == str(copy)


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
