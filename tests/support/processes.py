"""Python child processes of tests: output captured in files, none left behind.

Each child leads a session of its own. `kill_leftovers`, which a fixture calls after every test,
kills the sessions' process groups, so that grandchildren end too.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from .waiting import wait_until

__all__ = ["Child", "Finished", "kill_leftovers", "run_python", "start_python"]

#: Children whose groups `kill_leftovers` has yet to kill.
_started: list[Child] = []


@dataclass(frozen=True, slots=True)
class Finished:
    """How a child ended."""

    returncode: int
    stdout: str
    stderr: str


class Child:
    """A running child process; as a context manager its whole group is killed at the end."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | str | None = None,
    ) -> None:
        self.argv = list(argv)
        self._killed = False
        self._stdout: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `release`
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `release`
        self.process = subprocess.Popen(
            self.argv,
            stdin=subprocess.PIPE,
            stdout=self._stdout,
            stderr=self._stderr,
            env=merged_env(env),
            cwd=cwd,
            start_new_session=True,
        )
        _started.append(self)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout(self) -> str:
        """All that it has written so far."""
        return _content(self._stdout)

    @property
    def stderr(self) -> str:
        return _content(self._stderr)

    def tell(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def wait_for_line(self, pattern: str, timeout_s: float = 10.0) -> re.Match[str]:
        """Wait for a whole line of stdout that matches; fail at once when the child has ended."""
        regex = re.compile(f"^(?:{pattern})$", re.MULTILINE)

        def line() -> re.Match[str] | None:
            ended = self.process.poll() is not None  # asked first: all output is there by then
            # A last line without its end is still being written.
            found = regex.search(self.stdout.rpartition("\n")[0])
            if found is None and ended:
                raise AssertionError(f"no line {pattern!r} and it ended: {self}")
            return found

        found = wait_until(line, timeout_s, lambda: f"line {pattern!r} of {self}")
        assert found is not None
        return found

    def wait(self, timeout_s: float = 20.0) -> Finished:
        """Close its stdin and wait for its end; a child that goes on is killed and is a failure."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            returncode = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill_group()
            raise AssertionError(f"did not end within {timeout_s:g} s: {self}") from None
        return Finished(returncode, self.stdout, self.stderr)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child alone."""
        self.process.send_signal(number)

    def kill_group(self) -> None:
        """Kill -9 everything in its process group, and reap it. Idempotent."""
        if not self._killed:
            self._killed = True  # once only: a later group may have the same number
            with contextlib.suppress(ProcessLookupError):  # all of it has ended by itself
                os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def release(self) -> None:
        """Kill what is left and close the files."""
        self.kill_group()
        for file in (self.process.stdin, self._stdout, self._stderr):
            assert file is not None
            with contextlib.suppress(BrokenPipeError):  # what a dead child left unread
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_group()

    def __str__(self) -> str:
        state = self.process.poll()
        return (
            f"{' '.join(self.argv)[:200]} (pid {self.pid}, exit status {state})\n"
            f"--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"
        )


def merged_env(env: Mapping[str, str | None] | None) -> dict[str, str]:
    """Our environment with `env` over it; None takes a variable away."""
    merged: dict[str, str | None] = {**os.environ, **(env or {})}
    return {name: value for name, value in merged.items() if value is not None}


def start_python(
    code_or_module: str,
    *args: str,
    env: Mapping[str, str | None] | None = None,
    cwd: Path | str | None = None,
) -> Child:
    """Start this Python on a program text, or on a module if it is a dotted name (`-m`)."""
    kind = "-m" if re.fullmatch(r"[\w.]+", code_or_module) else "-c"
    return Child([sys.executable, "-u", kind, code_or_module, *args], env=env, cwd=cwd)


def run_python(
    code_or_module: str,
    *args: str,
    env: Mapping[str, str | None] | None = None,
    cwd: Path | str | None = None,
    timeout_s: float = 20.0,
    check: bool = True,
) -> Finished:
    """Run it to its end; with `check` an exit status other than 0 is a failure with its output."""
    child = start_python(code_or_module, *args, env=env, cwd=cwd)
    finished = child.wait(timeout_s)
    if check and finished.returncode != 0:
        raise AssertionError(f"failed: {child}")
    return finished


def kill_leftovers() -> None:
    """Kill the groups of all children started since the last call."""
    while _started:
        _started.pop().release()


def _content(file: IO[bytes]) -> str:
    # pread: the child writes through the same file offset.
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode("utf-8", "replace")
