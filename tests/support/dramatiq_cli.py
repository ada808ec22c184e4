"""Real worker processes: the `dramatiq` command, as a user starts it.

Dramatiq's main process ends all of its workers when one dies. A test that kills a worker and
wants the others to live starts two of these, with one process each.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from .processes import Child, Finished
from .waiting import wait_gone, wait_until

__all__ = ["DramatiqWorkers", "dramatiq_workers"]

_READY = re.compile(r"\[PID (\d+)\].*Worker process is ready for action")


class DramatiqWorkers:
    """A running `dramatiq` command. Made by `dramatiq_workers`."""

    def __init__(self, child: Child, processes: int) -> None:
        self._child = child
        self._processes = processes

    @property
    def pid(self) -> int:
        """The main process's id; also the id of the process group."""
        return self._child.pid

    @property
    def worker_pids(self) -> list[int]:
        """The ids of the worker processes that are ready, in the order in which they said so."""
        return [int(pid) for pid in _READY.findall(self.log)]

    @property
    def running(self) -> bool:
        return self._child.process.poll() is None

    @property
    def log(self) -> str:
        """All that the command and its workers have logged or printed so far."""
        return self._child.stderr + self._child.stdout

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until each worker process is ready."""

        def ready() -> bool:
            ended = not self.running  # asked first: the log is complete by then
            if len(self.worker_pids) == self._processes:
                return True
            if ended:
                raise AssertionError(f"dramatiq ended before its workers were ready: {self._child}")
            return False

        wait_until(ready, timeout_s, lambda: f"{self._processes} ready workers: {self._child}")

    def wait_for_log(self, pattern: str, timeout_s: float = 10.0) -> re.Match[str]:
        """Wait until the log matches."""
        found = wait_until(
            lambda: re.search(pattern, self.log),
            timeout_s,
            lambda: f"{pattern!r} in the log of {self._child}",
        )
        assert found is not None
        return found

    def kill_worker(self, index: int = 0) -> int:
        """Kill -9 one worker process; return its pid once it is gone."""
        pid = self.worker_pids[index]
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        return pid

    def wait(self, timeout_s: float = 15.0) -> Finished:
        """Wait for the end of the command."""
        return self._child.wait(timeout_s)

    def stop(self, timeout_s: float = 15.0) -> int:
        """Stop by SIGTERM, as an operator does, and return the exit status. Idempotent."""
        if self.running:
            self._child.signal(signal.SIGTERM)
        return self._child.wait(timeout_s).returncode

    def kill(self) -> None:
        """Kill -9 the command and all of its workers."""
        self._child.kill_group()
        for pid in self.worker_pids:
            wait_gone(pid)


@contextmanager
def dramatiq_workers(
    modules: str | Sequence[str],
    *,
    processes: int = 1,
    threads: int = 2,
    env: Mapping[str, str | None] | None = None,
    cwd: Path | str | None = None,
    args: Sequence[str] = (),
    ready_timeout_s: float = 20.0,
) -> Iterator[DramatiqWorkers]:
    """Start `dramatiq MODULES`, wait until every process is ready, stop it at the end.

    Args:
        modules: one or several; Dramatiq looks for them in `cwd` first.
        env: added to our environment; None takes a variable away.
        cwd: where it runs. Not the repository's root, whose folders hide behind bare names.
        args: more options of the command.

    Raises:
        AssertionError: not ready in time, or not ended 15 s after SIGTERM; its log is in it.
    """
    command = str(Path(sys.executable).with_name("dramatiq"))
    names = [modules] if isinstance(modules, str) else list(modules)
    child = Child(
        [command, "--processes", str(processes), "--threads", str(threads), *args, *names],
        # Threads look for the end of their work more often than each second: quicker stops.
        env={"PYTHONUNBUFFERED": "1", "dramatiq_worker_timeout": "100", **(env or {})},
        cwd=cwd,
    )
    workers = DramatiqWorkers(child, processes)
    try:
        workers.wait_ready(ready_timeout_s)
        yield workers
        workers.stop()
    except BaseException as error:
        error.add_note(f"log of dramatiq {' '.join(names)}:\n{workers.log[-8000:]}")
        raise
    finally:
        workers.kill()
