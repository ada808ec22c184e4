"""Files of metrics: read by prometheus-client, whole at any moment, known by their process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.support import start_python, wait_gone, wait_until

from streamatiq.errors import ConfigurationError
from streamatiq.workers import metric_folder
from streamatiq.workers.metric_files import MetricFile, is_alive, process_id
from streamatiq.workers.metric_folder import metrics_folder, prepare_folder
from streamatiq.workers.metric_server import address, scrape


def _count(file: MetricFile, name: str, labels: dict[str, str], more: float = 1.0) -> None:
    place = file.cell(name, f"{name}_total", "Help.", labels)
    file.cells[place] += more


def test_what_several_files_hold_is_added_up(tmp_path: Path) -> None:
    for more in (1, 2):
        _count(MetricFile(tmp_path, "counter"), "things", {"queue": 'a"ä'}, more)
    assert 'things_total{queue="a\\"ä"} 3.0' in scrape(tmp_path).decode()


def test_a_file_grows_and_what_an_older_view_stores_is_kept(tmp_path: Path) -> None:
    file = MetricFile(tmp_path, "counter")
    first = file.cell("things", "things_total", "Help.", {"n": "0"})
    older = file.cells
    for n in range(1, 2000):
        _count(file, "things", {"n": str(n)})
    older[first] += 5
    text = scrape(tmp_path).decode()
    assert 'things_total{n="0"} 5.0' in text
    assert text.count("things_total{") == 2000


def test_a_file_that_cannot_grow_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = MetricFile(tmp_path, "counter")
    _count(file, "things", {"n": "first"})

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    for n in range(500):
        _count(file, "things", {"n": str(n)})
    assert caplog.text.count("cannot grow") >= 1
    assert 'things_total{n="first"} 1.0' in scrape(tmp_path).decode()


def test_no_reader_sees_a_file_that_is_not_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        assert not list(tmp_path.glob("*.db"))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        MetricFile(tmp_path, "counter")
    assert not list(tmp_path.iterdir())


def test_a_killed_process_keeps_its_counts_and_loses_its_gauges(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from streamatiq.workers.metric_files import MetricFile
for kind, name in (("counter", "things"), ("gauge_livesum", "level"), ("gauge_liveall", "each")):
    file = MetricFile(Path(sys.argv[1]), kind)
    sample = name + "_total" * (kind == "counter")
    place = file.cell(name, sample, "Help.", {})
    file.cells[place] += 7
print("stored")
time.sleep(60)
"""
    own = MetricFile(tmp_path, "gauge_livesum")
    own.cells[own.cell("level", "level", "Help.", {})] = 1
    child = start_python(code, str(tmp_path))
    child.wait_for_line("stored")
    assert "level 8.0" in scrape(tmp_path).decode()
    child.signal(signal.SIGKILL)
    child.wait()
    wait_gone(child.pid)
    text = scrape(tmp_path).decode()
    assert "things_total 7.0" in text
    assert "level 1.0" in text
    assert "each{" not in text


def test_a_damaged_file_is_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _count(MetricFile(tmp_path, "counter"), "things", {})
    (tmp_path / "counter_1-1-1.db").write_bytes(b"")
    (tmp_path / "histogram_1-1-1.db").write_bytes(b"\xff\x00\x00\x00" + b"\x7f" * 300)
    for _ in range(2):
        text = scrape(tmp_path).decode()
        assert "things_total 1.0" in text
        assert "streamatiq_metrics_unreadable_files 2.0" in text
    assert caplog.text.count("is damaged") == 2


def test_processes_are_told_from_later_ones_of_the_same_pid() -> None:
    own = process_id(os.getpid())
    assert is_alive(own)
    assert is_alive(f"{own}-3")
    assert is_alive(str(os.getpid()))
    pid, begun = own.split("-")
    assert not is_alive(f"{pid}-{int(begun) + 1}")
    assert is_alive("somebody")


def test_the_folder_of_a_program_is_its_own_and_those_of_dead_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STREAMATIQ_METRICS_DIR", raising=False)
    monkeypatch.setattr(metric_folder.tempfile, "gettempdir", lambda: str(tmp_path))
    folder = metrics_folder()
    assert folder.name == process_id(os.getpid())
    dead = folder.with_name(f"{os.getpid()}-1")
    dead.mkdir(parents=True)
    prepare_folder(folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert folder.stat().st_mode & 0o077 == 0


def test_a_named_folder_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1-1").mkdir()
    monkeypatch.setenv("STREAMATIQ_METRICS_DIR", str(tmp_path / "named"))
    prepare_folder(metrics_folder())
    assert (tmp_path / "named").is_dir()
    assert (tmp_path / "1-1").is_dir()


def test_where_it_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STREAMATIQ_METRICS_HOST", "STREAMATIQ_METRICS_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert address() == ("127.0.0.1", 9192)
    monkeypatch.setenv("STREAMATIQ_METRICS_HOST", "::")
    monkeypatch.setenv("STREAMATIQ_METRICS_PORT", "off")
    assert address() is None
    monkeypatch.setenv("STREAMATIQ_METRICS_PORT", "http")
    with pytest.raises(ConfigurationError, match="is 'http': give a port"):
        address()


def test_the_server_waits_for_its_port_and_ends_with_its_parent(tmp_path: Path) -> None:
    """Two processes: one starts the server, and is killed."""
    server = """
import logging, os
from streamatiq.workers import metric_server
logging.basicConfig(level=logging.INFO)
metric_server.AGAIN_S = metric_server.LOOK_S = 0.05
print(os.getpid(), flush=True)
metric_server.serve_metrics()
"""
    parent = """
import subprocess, sys
subprocess.Popen([sys.executable, "-u", "-c", sys.argv[1]]).wait()
"""
    _count(MetricFile(tmp_path, "counter"), "things", {})
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        child = start_python(
            parent,
            server,
            env={"STREAMATIQ_METRICS_PORT": str(port), "STREAMATIQ_METRICS_DIR": str(tmp_path)},
        )
        pid = int(child.wait_for_line(r"\d+")[0])
        wait_until(lambda: "cannot be served on" in child.stderr)
    wait_until(lambda: f":{port}/metrics" in child.stderr)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
        assert b"things_total 1.0" in reply.read()
    assert child.stderr.count("cannot be served on") == 1
    child.signal(signal.SIGKILL)
    wait_gone(pid)


def test_a_process_that_has_ended_and_was_not_asked_about_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        name = process_id(child.pid)
        assert is_alive(name)
        child.kill()
        wait_gone(child.pid)  # it has ended, and is still there: `wait` comes with the block's end
        assert child.returncode is None
        assert not is_alive(name)
        assert not is_alive(str(child.pid))
