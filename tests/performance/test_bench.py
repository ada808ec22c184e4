"""The bench itself, in its smallest form: what it counts is right. Never how fast anything is."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from benchmarks.processes import Workers
from benchmarks.rounds import Plan, run_plan
from benchmarks.server import open_server
from benchmarks.stage import Bench, remove_abandoned_ledgers
from benchmarks.systems import SYSTEMS, System
from tests.support import run_python, start_python, wait_gone, wait_until

from streamatiq import EmbeddedServer

#: Environment variable that marks every process of one bench, however deep.
_MARK = "BENCH_TEST_MARK"


class Dying(System):
    """A system whose workers end as soon as they have started."""

    def worker_commands(self, processes: int, threads: int) -> list[list[str]]:
        return [[sys.executable, "-c", "raise SystemExit('worn out')"]]


def run_bench(root: Path, path: Path, url: str, *options: str) -> tuple[str, list[dict[str, Any]]]:
    """Run the bench; return its table and its samples."""
    finished = run_python(
        "benchmarks",
        *("--rounds", "1", "--messages", "100", "--seconds", "1", "--rates", "100"),
        *("--processes", "1", "--json", str(path), "--redis-url", url, *options),
        cwd=root,
        timeout_s=28,
    )
    run = json.loads(path.read_text())
    assert run["unavailable"] == {}
    return finished.stdout, run["samples"]


@pytest.mark.parametrize(
    "system",
    [
        *("floor", "streamatiq-on"),
        *(
            pytest.param(system, marks=pytest.mark.soak)
            for system in ("streamatiq", "streamatiq-guarded", "streamatiq-batch")
        ),
        pytest.param("streamatiq-guarded-nokey", marks=pytest.mark.soak),
        pytest.param("streamatiq-ordered", marks=pytest.mark.soak),
    ],
)
def test_a_drain_counts_every_message_once(
    root: Path, tmp_path: Path, server: EmbeddedServer, system: str
) -> None:
    table, samples = run_bench(
        root, tmp_path / "run.json", server.tcp_url, "--systems", system, "--only", "drain"
    )

    assert len(samples) == 1
    drain = samples[0]
    assert drain["error"] is None
    assert drain["sent"] == drain["handled"] == 100 * SYSTEMS[system].drain_factor
    assert drain["duplicates"] == 0
    assert drain["settled"] is True
    assert drain["values"]["rate_per_s"] > 0
    assert f"| {system} " in table
    assert "messages/s" in table


@pytest.mark.soak
def test_latency_counts_from_the_schedule_and_from_the_send(
    root: Path, tmp_path: Path, server: EmbeddedServer
) -> None:
    table, samples = run_bench(
        root,
        tmp_path / "run.json",
        server.tcp_url,
        "--systems",
        "streamatiq-on",
        "--only",
        "latency",
    )

    values = samples[0]["values"]
    assert samples[0]["sent"] == samples[0]["handled"] > 100
    assert 0 < values["p50_ms"] <= values["p90_ms"] <= values["p99_ms"] <= values["max_ms"]
    assert values["p50_ms"] <= values["scheduled_p50_ms"]
    assert values["max_ms"] <= values["scheduled_max_ms"]
    assert "p99 ms from schedule" in table


@pytest.mark.soak
def test_enqueue_and_memory_give_figures_and_leave_nothing_on_a_foreign_server(
    root: Path, tmp_path: Path, own_server: Any
) -> None:
    with own_server(port=0) as server:
        _, samples = run_bench(
            root,
            tmp_path / "run.json",
            server.tcp_url,
            *("--systems", "floor,streamatiq-on", "--only", "enqueue,memory"),
        )
        left = open_keys(server)

    figures = {(s["system"], s["measure"], s["case"]): s["values"] for s in samples}
    assert set(figures) == {
        (system, measure, case)
        for system in ("floor", "streamatiq-on")
        for measure, case in (
            ("enqueue", "one by one"),
            ("enqueue", "in bulk"),
            ("memory", "queued"),
        )
    }
    for values in figures.values():
        assert all(value > 0 for value in values.values())
    assert left == []


def open_keys(server: EmbeddedServer) -> list[bytes]:
    import redis

    with redis.Redis.from_url(server.url) as client:
        return list(client.scan_iter())


@pytest.mark.soak
def test_what_cannot_run_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    absent = System("absent", "no such module", "benchmarks.apps.absent", True, 1)
    broken = Dying("broken", "workers that die", "benchmarks.apps.floor", False, 1)
    plan = Plan((absent, broken, SYSTEMS["floor"]), ("drain",), 1, 100, (1,))

    with open_server(None, tmp_path / "server") as server:
        run = run_plan(plan, Bench(server, 8, tmp_path), lambda line: None)

    assert "No module named 'benchmarks.apps.absent'" in run.unavailable["absent"]
    errors = {sample.system: sample.error for sample in run.samples}
    assert errors["floor"] is None
    assert errors["broken"] == "a worker exited with 1: worn out"
    assert len(run.failures) == 2


def test_a_server_that_is_not_there_is_one_line(root: Path) -> None:
    finished = run_python("benchmarks", "--redis-url", "redis://127.0.0.1:1", cwd=root, check=False)

    assert finished.returncode == 2
    assert finished.stderr.startswith("no server to measure on: redis://127.0.0.1:1: ")
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.soak),
        pytest.param(signal.SIGTERM, marks=pytest.mark.soak),
        signal.SIGKILL,
    ],
)
def test_nothing_outlives_the_bench(root: Path, tmp_path: Path, number: signal.Signals) -> None:
    mark = str(uuid4())
    bench = start_python(
        "benchmarks",
        *("--systems", "redisbroker", "--only", "latency", "--rates", "50", "--seconds", "60"),
        env={_MARK: mark, "TMPDIR": str(tmp_path)},
        cwd=root,
    )

    def family() -> set[int]:
        # The server writes over its own environment, so it is known as a child only.
        return (marked(mark) | children_of(bench.pid)) - {bench.pid}

    # The server, the producer, Dramatiq's master and its worker.
    members = wait_until(lambda: f if len(f := family()) >= 4 else set(), 15, lambda: str(bench))
    bench.signal(number)
    for pid in members:
        wait_gone(pid)
    finished = bench.wait()

    assert marked(mark) == set()
    if number is signal.SIGKILL:
        remove_abandoned_ledgers()  # as the next bench does
    else:
        assert finished.returncode == 130
        assert "Traceback" not in finished.stderr
        assert list(tmp_path.iterdir()) == []
    assert not list(Path("/dev/shm").glob(f"*bench*-{bench.pid}-*"))


def test_workers_that_ignore_sigterm_are_killed_with_their_children(tmp_path: Path) -> None:
    mark = str(uuid4())
    stubborn = ["/bin/sh", "-c", "trap '' TERM; sleep 600 & wait; wait; sleep 600"]
    with Workers([stubborn], {_MARK: mark}, tmp_path / "log"):
        wait_until(lambda: len(marked(mark)) >= 2)

    wait_until(lambda: marked(mark) == set())


def marked(mark: str) -> set[int]:
    """Return the living processes whose environment carries the mark."""
    return {pid for pid in processes() if f"{_MARK}={mark}".encode() in read_proc(pid, "environ")}


def children_of(parent: int) -> set[int]:
    """Return the living processes that `parent` has started."""
    return {
        pid for pid in processes() if f"\nPPid:\t{parent}\n" in read_proc(pid, "status").decode()
    }


def processes() -> list[int]:
    """Return all processes but this one."""
    names = (folder.name for folder in Path("/proc").iterdir())
    return [int(name) for name in names if name.isdigit() and int(name) != os.getpid()]


def read_proc(pid: int, name: str) -> bytes:
    """Return a file of a process; empty if it has ended or is another user's."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
