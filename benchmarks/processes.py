"""Child processes that never outlive the bench.

Each child leads a process group of its own: a Ctrl-C reaches the bench alone, which then kills the
groups in order, forked workers included. Should
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

__all__ = [
    "ROOT",
    "Child",
    "ChildFailed",
    "Workers",
    "anonymous_bytes",
    "die_with_parent",
    "process_cpu_s",
]

#: The repository: working directory of every child.
ROOT = Path(__file__).resolve().parent.parent

#: prctl(2): signal for this process when the thread that made it ends.
_PR_SET_PDEATHSIG = 1


#: What /proc/PID/status says of memory that is no file's, in KiB.
_ANONYMOUS = re.compile(r"^RssAnon:\s+(\d+) kB", re.MULTILINE)

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


def anonymous_bytes(pid: int) -> int | None:
    """Return the memory of a process that is its own, or None where that cannot be read.

    Mapped files are left out: pages of the ledger count as the process's once it has touched them.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = _ANONYMOUS.search(status)
    return int(found[1]) * 1024 if found else None


class Child:
    """One child process with a result, as a context manager; it is killed at the end."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], timeout_s: float) -> None:
        """Start it.

        Args:
            command, env: what to start, and what to add to its environment.
            timeout_s: how long `result` gives it, from now.
        """
        self._command = command
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._process = _start(command, env, subprocess.PIPE, subprocess.PIPE)

    def check(self) -> None:
        """Raise ChildFailed if it has ended with an error."""
        if self._process.poll():
            self.result()

    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def result(self) -> str:
        """Wait for its end and return what it printed.

        Raises:
            ChildFailed: it exited with an error, or ran longer than it may.
        """
        left_s = max(0.0, self._deadline - time.monotonic())
        try:
            out, err = self._process.communicate(timeout=left_s)
        except subprocess.TimeoutExpired:
            label = _label(self._command)
            raise ChildFailed(f"{label} took longer than {self._timeout_s:.0f} s") from None
        if code := self._process.returncode:
            reason = _last_lines(err.decode(errors="replace"))
            raise ChildFailed(f"{_label(self._command)} exited with {code}: {reason}")
        return str(out.decode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _end_group(self._process)


class Workers:
    """The worker processes of one system, from start to stop, as a context manager."""

    def __init__(
        self,
        commands: Sequence[Sequence[str]],
        env: Mapping[str, str],
        log: Path,
    ) -> None:
        """Start one process per command; their output goes to the file `log`.

        Args:
            commands, env: what to start, and what to add to its environment.
            log: file for the output.
        """
        self._log = log
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

    def kill(self, index: int) -> None:
        """Kill the process started `index`-th, and all that it started, without a warning.

        It is no longer one of them: `check` does not miss it.
        """
        _end_group(self._children.pop(index))

    def group(self, index: int) -> int:
        """Return the process group of the process started `index`-th."""
        return self._children[index].pid

    def last_lines(self) -> str:
        """Return the end of what the workers logged, on one line."""
        return _last_lines(self._log.read_text(errors="replace"))

    def stop(self) -> None:
        """Kill all of them, and what they started.

        A measure is over by then, and has asked the system itself whether anything is left: a stop
        with its time-outs would make every measure seconds longer and show nothing.
        """
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
