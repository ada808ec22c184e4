"""Stopping: what signals do, where they may raise, and what stands in for a killed make's."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest
from tests.support import run_python, start_python, wait_until

from streamatiq.demo.stop import Stop


@pytest.fixture
def stop() -> Iterator[Stop]:
    """With the signals taken over, for this test."""
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    made = Stop({})
    made.install()
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)
    made.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_wait(stop: Stop, number: signal.Signals) -> None:
    threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
    assert stop.wait(20)
    assert stop.requested
    assert not stop.urgent


def test_a_wait_ends_by_itself(stop: Stop) -> None:
    assert not stop.wait(0.01)
    assert not stop.requested


def test_the_second_signal_is_urgent(stop: Stop) -> None:
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    assert stop.urgent
    assert stop.wait(20)


def test_a_signal_raises_only_where_it_may(stop: Stop) -> None:
    with pytest.raises(KeyboardInterrupt), stop.interrupting():
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    assert stop.urgent


def test_the_third_signal_ends_the_process() -> None:
    ended = run_python(
        "import signal\n"
        "from streamatiq.demo.stop import Stop\n"
        "Stop({}).install()\n"
        "for _ in range(3): signal.raise_signal(signal.SIGINT)\n"
        "print('not reached')\n",
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (130, "")


@pytest.mark.parametrize(("level", "stops"), [("1", True), (None, False)])
def test_the_death_of_make_asks_to_stop(level: str | None, stops: bool) -> None:
    code = (
        "import os, subprocess, sys\n"
        "from streamatiq.demo.stop import Stop\n"
        "stop = Stop()\n"
        "print('waits', os.getpid(), flush=True)\n"
        "sys.stdin.read()\n"  # until the parent is gone
        "print('stopped' if stop.wait(0.6) else 'goes on', flush=True)\n"
    )
    parent = start_python(
        f"import subprocess, sys; subprocess.run([{sys.executable!r}, '-c', {code!r}])",
        env={"MAKELEVEL": level},
    )
    parent.wait_for_line(r"waits \d+")
    parent.signal(signal.SIGKILL)
    parent.wait()
    expected = "stopped" if stops else "goes on"
    wait_until(lambda: expected in parent.stdout, 10, expected)
