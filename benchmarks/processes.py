"""Child processes that never outlive the bench.

Each child leads a process group of its own: a Ctrl-C reaches the bench alone, which then stops the
groups in order; whatever is left of a group at its end is killed, forked workers included. Should
the bench itself be killed, Linux sends the child SIGTERM (see `child.py`), and workers forked by
Dramatiq's master ask for the same in `die_with_parent`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

__all__ = ["ROOT", "ChildFailed", "Workers", "die_with_parent", "process_cpu_s", "run_child"]

#: The repository: working directory of every child.
ROOT = Path(__file__).resolve().parent.parent

#: prctl(2): signal for this process when the thread that made it ends.
_PR_SET_PDEATHSIG = 1


#: What a line looks like that says why a process failed, among others that do not.
_TELLING = re.compile(r"\w(Error|Exception)\b|\[(ERROR|CRITICAL)\]")


class ChildFailed(Exception):
    """A child process ended with an error, or not in time; the message carries its last lines."""


def die_with_parent(signum: int) -> None:
    """Have Linux send this process `signum` when its parent ends; elsewhere do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)


def process_cpu_s(pid: int) -> float | None:
    """Return the CPU seconds that a process has used so far, or None where none can be had.

    Linux numbers the CPU clock of process `pid` as ~pid << 3 | 2 (clock_getcpuclockid(3)); it
    counts all threads in ns, where /proc counts in steps of 10 ms.
    """
    if sys.platform != "linux":
        return None
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None


def run_child(command: Sequence[str], env: Mapping[str, str], timeout_s: float) -> str:
    """Run a child to its end and return what it printed.

    Raises:
        ChildFailed: it exited with an error, or ran longer than `timeout_s` (it is killed then).
    """
    child = _start(command, env, subprocess.PIPE, subprocess.PIPE)
    try:
        out, err = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise ChildFailed(f"{_label(command)} took longer than {timeout_s:.0f} s") from None
    finally:
        _end_group(child)
    if child.returncode:
        reason = _last_lines(err.decode(errors="replace"))
        raise ChildFailed(f"{_label(command)} exited with {child.returncode}: {reason}")
    return str(out.decode())


class Workers:
    """The worker processes of one system, from start to stop, as a context manager."""

    def __init__(
        self,
        commands: Sequence[Sequence[str]],
        env: Mapping[str, str],
        log: Path,
        *,
        stop_timeout_s: float = 10.0,
    ) -> None:
        """Start one process per command; their output goes to the file `log`.

        Args:
            commands, env: what to start, and what to add to its environment.
            log: file for the output.
            stop_timeout_s: how long a stopped group has before it is killed.
        """
        self._log = log
        self._stop_timeout_s = stop_timeout_s
        self._children: list[subprocess.Popen[bytes]] = []
        with log.open("wb") as output:
            try:
                for command in commands:
                    self._children.append(_start(command, env, output, output))
            except BaseException:
                self.stop()
                raise

    def check(self) -> None:
        """Raise ChildFailed if any of them has ended."""
        for child in self._children:
            if (code := child.poll()) is not None:
                raise ChildFailed(f"a worker exited with {code}: {self.last_lines()}")

    def last_lines(self) -> str:
        """Return the end of what the workers logged, on one line."""
        return _last_lines(self._log.read_text(errors="replace"))

    def stop(self) -> None:
        """Stop all of them: SIGTERM first, SIGKILL after the time-out. Nothing is left behind."""
        for child in self._children:
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + self._stop_timeout_s
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, deadline - time.monotonic()))
        for child in self._children:
            _end_group(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _start(
    command: Sequence[str],
    env: Mapping[str, str],
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
) -> subprocess.Popen[bytes]:
    stub = [sys.executable, "-I", "-S", str(ROOT / "benchmarks" / "child.py"), str(os.getpid())]
    return subprocess.Popen(
        [*stub, *command],
        cwd=ROOT,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left of the child's group, and reap the child."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdout, child.stderr):
        if stream is not None:
            stream.close()


def _label(command: Sequence[str]) -> str:
    return " ".join(command[2:5])


def _last_lines(text: str, count: int = 2) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)]
    return " | ".join((telling or lines)[-count:]) or "(no output)"
