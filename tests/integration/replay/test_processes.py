"""Replays in processes of their own: kill -9 and resume, control, workers, equality, diff."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.integration.logs.harness import Bench
from tests.integration.replay.app_events import Reading
from tests.support import Child, start_python, wait_gone, wait_until

from streamatiq import replay
from streamatiq.cli import main
from streamatiq.errors import ReplayTaken
from streamatiq.scheduler.replay import ReplayStore, Standing, store_of
from streamatiq.scheduler.replay.access import replay_output

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
#: The command, with its exit code.
MAIN = "import sys; from streamatiq.cli import main; sys.exit(main())"
HANDLERS = "tests.integration.replay.app"


class Commands:
    """`streamatiq replay` on this test's namespace, in this process and in others."""

    def __init__(
        self,
        url: str,
        namespace: str,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        # Not the repository's root, whose folders hide behind bare names: only `tests` is linked.
        (folder / "tests").symlink_to(REPOSITORY / "tests")
        self.folder = folder
        self.capsys = capsys
        for name, value in {
            "STREAMATIQ_REDIS__URL": url,
            "STREAMATIQ_NAMESPACE": namespace,
            "STREAMATIQ_WORKERS__HANDLERS": HANDLERS,
            "PYTHONPATH": str(folder),
        }.items():
            monkeypatch.setenv(name, value)

    def start(self, *args: str, **env: str) -> Child:
        """In a process of its own."""
        return start_python(MAIN, "replay", *args, env=env, cwd=self.folder)

    def run(self, *args: str, code: int = 0, **env: str) -> str:
        """In a process of its own, to its end."""
        with self.start(*args, **env) as child:
            done = child.wait(60)
        assert done.returncode == code, f"{args}: {done}"
        return done.stdout + done.stderr

    def here(self, *args: str, code: int = 0) -> str:
        """In this process."""
        self.capsys.readouterr()
        found = main(["replay", *args])
        captured = self.capsys.readouterr()
        assert found == code, f"{args}: {captured}"
        return captured.out + captured.err


@pytest.fixture
def commands(
    redis_url: str,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Commands]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield Commands(redis_url, namespace, tmp_path, monkeypatch, capsys)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def store(bench: Bench) -> ReplayStore:
    return store_of(bench.broker)


def readings(bench: Bench, count: int, step_ns: int = 1_000_000) -> None:
    for first in range(0, count, 500):
        bench.logs.publish_many(
            [
                Reading(ts_event=10**18 + n * step_ns, key=f"k{n % 17}", n=n)
                for n in range(first, min(first + 500, count))
            ]
        )


@pytest.mark.timeout(60)
def test_kill_9_in_the_middle_leaves_neither_gap_nor_double(
    bench: Bench, commands: Commands, store: ReplayStore, bench_in: Callable[[str], Bench]
) -> None:
    readings(bench, 6000)
    wanted = replay(Reading, broker=bench.broker, time_basis="event").run()
    basis = ("--time-basis", "event")
    with commands.start(
        "start", "-t", "app.reading", "--id", "kill", "--speed", "1", *basis
    ) as child:
        wait_until(lambda: child.stderr.count("replay kill"), 20)
        wait_until(lambda: store.get("kill").progress.count > 800, 20)
        there = bench_in(f"{bench.namespace}.replay.kill")

        def is_ahead() -> bool:
            """Whether it stands still, and more went out than it has saved."""
            child.signal(signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
            if len(there.read(Reading)) > store.get("kill").progress.count:
                return True
            child.signal(signal.SIGCONT)
            return False

        wait_until(is_ahead, 20)
        child.signal(signal.SIGKILL)
        child.process.wait()
    saved = store.get("kill")
    assert saved.standing is Standing.RUNNING  # its lease has not run out
    at = saved.progress.count
    assert 800 < at < len(there.read(Reading)) < 6000
    with pytest.raises(ReplayTaken):
        store.take("kill", "me")
    wait_until(lambda: store.get("kill").standing is Standing.INTERRUPTED, 10)
    assert "interrupted" in commands.here("show", "kill")
    with commands.start("resume", "kill", "--json") as child:
        # Controlled from a third process.
        wait_until(lambda: store.get("kill").standing is Standing.RUNNING, 20)
        store.command("kill", "speed", "max")
        told = json.loads(child.wait(30).stdout)
    assert told["report"]["digest"] == wanted.digest
    assert told["report"]["count"] == 6000
    entries = there.read(Reading)
    assert sorted(one.event.n for one in entries) == list(range(6000))


@pytest.mark.timeout(60)
def test_control_from_another_process(bench: Bench, commands: Commands, store: ReplayStore) -> None:
    readings(bench, 300)
    with commands.start("start", "-t", "app.reading", "--id", "ctl", "--paused") as child:
        wait_until(lambda: store.ids() and store.get("ctl").standing is Standing.PAUSED, 20)
        commands.here("step", "ctl", "7")
        wait_until(lambda: store.get("ctl").progress.count == 7)
        place = store.get("ctl").progress.last_place
        commands.here("seek", "ctl", place)
        commands.here("speed", "ctl", "max")
        assert "nothing has changed" in commands.here("seek", "ctl", "app.reading/0/1-1", code=1)
        assert "neither 'max'" in commands.here("speed", "ctl", "0", code=2)
        listed = commands.here("list")
        assert "ctl" in listed
        assert "paused" in listed
        # `resume` of one that runs lets it go on there.
        commands.here("resume", "ctl")
        done = child.wait(20)
    assert done.returncode == 0
    assert "done: 301 events" in done.stdout  # the place that was sought is one more
    assert "No process runs replay 'ctl'" in commands.here("pause", "ctl", code=1)
    assert "removed" in commands.here("remove", "ctl")
    assert "there are: none" in commands.here("show", "ctl", code=1)


@pytest.mark.timeout(60)
def test_ctrl_c_leaves_it_resumable(bench: Bench, commands: Commands, store: ReplayStore) -> None:
    readings(bench, 300, 100_000_000)
    with commands.start(
        "start", "-t", "app.reading", "--id", "int", "--time-basis", "event"
    ) as child:
        wait_until(lambda: store.ids() and store.get("int").progress.count > 2, 20)
        child.signal(signal.SIGINT)
        done = child.wait(10)
    assert done.returncode == 130
    assert "streamatiq replay resume int" in done.stderr
    record = store.get("int")
    assert record.standing is Standing.INTERRUPTED
    assert 2 < record.progress.count < 300
    commands.here("cancel", "int")
    assert store.get("int").standing is Standing.CANCELLED
    assert "cannot go on" in commands.here("resume", "int", code=1)


Start = Callable[..., dict[str, Any]]
OPTIONS = ("--handlers", HANDLERS, "-t", "app.reading", "--time-basis", "event", "--json")


@pytest.fixture
def start(commands: Commands) -> Start:
    """Runs a replay with worker processes to its end; its report."""

    def run(name: str, speed: str, workers: str, **env: str) -> dict[str, Any]:
        options = ("--id", name, "--speed", speed, "--workers", workers, *OPTIONS)
        return _report(commands.run("start", *options, **env))

    return run


def _report(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out[out.index("{") :].splitlines()[0])["report"]
    return found


@pytest.mark.soak
@pytest.mark.timeout(90)
def test_outputs_are_equal_whatever_the_speed_and_the_workers(
    bench: Bench, commands: Commands, start: Start
) -> None:
    readings(bench, 1500)
    one = start("one", "max", "1")
    two = start("two", "10", "2")
    assert one["digest"] == two["digest"]
    assert one["output"] == two["output"] != ""
    # 1500 readings, as many dry reports, 1500 alarms, each with its report.
    assert replay_output(bench.broker, "one") == (one["output"], 1500 * 2 + 1500 * 2)
    assert "No difference." in commands.here("diff", "one", "two")

    # Today's code against yesterday's.
    new = start("new", "max", "2", REPLAY_TEST_VERSION="2")
    assert new["digest"] == one["digest"]
    assert new["output"] != one["output"]
    out = commands.here("diff", "one", "new", "--show", "2", code=1)
    assert "app.report: " in out
    assert "changed" in out
    assert 'text: "alarm 50" -> "alarm 50 (new)"' in out
    assert not json.loads(commands.here("diff", "one", "new", "--json", code=1))["same"]
    assert "No difference." in commands.here("diff", "one", "new", "--ignore", "text")
    assert "there are" in commands.here("diff", "one", "none", code=1)


@pytest.mark.soak
@pytest.mark.timeout(90)
def test_outputs_are_equal_after_a_kill_9_with_its_workers(
    bench: Bench, commands: Commands, store: ReplayStore, start: Start
) -> None:
    readings(bench, 600, step_ns=10_000_000)
    one = start("one", "max", "1")
    options = ("--id", "three", "--speed", "2", "--workers", "2", *OPTIONS)
    with commands.start("start", *options, REPLAY_TEST_SLOW_S="0.01") as child:
        wait_until(lambda: "three" in store.ids(), 30)
        wait_until(lambda: store.get("three").progress.count > 100, 30)
        workers = _workers_of(child.pid)
        assert workers
        child.signal(signal.SIGKILL)
        child.process.wait()
        for pid in workers:
            wait_gone(pid, 30)  # they do not outlive it
    wait_until(lambda: store.get("three").standing is Standing.INTERRUPTED, 10)
    assert store.get("three").progress.count < 600
    three = _report(commands.run("resume", "three", "--json"))
    assert three["digest"] == one["digest"]
    assert three["output"] == one["output"]


def _workers_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in children]


@pytest.mark.timeout(60)
def test_workers_that_cannot_start_are_told(
    bench: Bench, commands: Commands, store: ReplayStore
) -> None:
    out = commands.here(
        *("start", "-t", "market_data", "--id", "bad", "--workers", "1"),
        *("--handlers", "no_such_module"),
        code=1,
    )
    assert "no_such_module" in out
    record = store.get("bad")
    assert record.standing is Standing.FAILED
    assert record.progress.count == 0


def test_bad_input_changes_nothing(bench: Bench, commands: Commands, client: redis.Redis) -> None:
    readings(bench, 3)
    before = sorted(client.scan_iter(match=f"*{bench.namespace}*", count=1000))
    for options, said, code in (
        (["-t", "no.such"], "no.such", 1),
        (["-t", "app.reading", "--speed", "nan"], "neither 'max'", 2),
        (["-t", "app.reading", "--speed=-1"], "neither 'max'", 2),
        (["-t", "app.reading", "--start", "2024-01-02", "--end", "2024-01-01"], "not after", 1),
        (["-t", "app.reading", "--start", "soon"], "no time like", 2),
        (["-t", "app.reading", "--target", "there"], "target is 'there'", 1),
        (["-t", "app.reading", "--target", "live"], "--allow-live", 1),
        (["-t", "app.reading", "--id", "a b"], "cannot be the id", 1),
        (["-t", "app.reading", "--max-rate", "0"], "max_rate is 0", 1),
    ):
        assert said in commands.here("start", *options, code=code)
    assert sorted(client.scan_iter(match=f"*{bench.namespace}*", count=1000)) == before
