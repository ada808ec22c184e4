"""The demo's worker processes: the `dramatiq` command, as a user starts it.

The command leads a session of its own, so that a terminal's Ctrl-C does not reach it before the
source has stopped. All that it and its workers say goes to one file. `stop` leaves no process of
that session behind; `lifeline` takes care of a demo that never comes to call it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from ..errors import StreamatiqError
from ..settings import Settings
from .lifeline import VARIABLE

__all__ = ["WorkerProcesses", "WorkersFailed"]

#: What a worker process says once it has made its consumer groups and begun to read.
READY = b"Worker process is ready for action."
#: Seconds between two looks at the processes.
LOOK_S = 0.02
#: Seconds that worker processes may take to settle what they run.
STOP_S = 15.0
#: Seconds that killed processes may take to end.
KILLED_S = 5.0
#: Lines of the log that a failure shows.
TAIL_LINES = 12


class WorkersFailed(StreamatiqError):
    """The demo's worker processes ended by themselves, or did not start.

    Parameters:
      log: The file that they wrote to.
    """

    code = "demo_workers_failed"

    def __init__(self, what: str, log: Path) -> None:
        super().__init__(f"{what}. Their log tells why: {log}")
        lines = log.read_text("utf-8", "replace").splitlines()
        earlier, self.tail = lines[:-TAIL_LINES], lines[-TAIL_LINES:]
        # Other workers may have said much since the one that matters.
        self.tail[:0] = [line for line in earlier if "[CRITICAL]" in line][-TAIL_LINES:]


class WorkerProcesses:
    """A running `dramatiq` command. Made by `start`; for one thread.

    Parameters:
      process: The command's main process, leader of its session.
      log: The file that all output goes to.
      count: Number of worker processes asked for.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path, count: int) -> None:
        self._process = process
        self._count = count
        self._stopped = False
        self.log = log

    @staticmethod
    def command(processes: int, threads: int) -> list[str]:
        """The command line, without the program that runs it."""
        return ["dramatiq", "streamatiq.workers", "-p", str(processes), "-t", str(threads)]

    @classmethod
    def start(
        cls, settings: Settings, directory: Path, lifeline: Path, processes: int, threads: int
    ) -> Self:
        """Starts the command; returns before its workers are ready.

        Parameters:
          settings: What the workers need to know; they read no settings file.
          directory: Where they run, and where the log is written.
          lifeline: The lock file that they follow.
          processes: Number of worker processes.
          threads: Threads in each.
        """
        log = directory / "workers.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *cls.command(processes, threads)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(settings, lifeline, os.environ),
                cwd=directory,
                start_new_session=True,
            )
        return cls(process, log, processes)

    def wait_ready(self, wait: Callable[[float], bool], timeout_s: float) -> bool:
        """Waits until every worker process reads.

        Parameters:
          wait: Waits that many seconds; returns True to give up.

        Returns:
          Whether they do; False if `wait` gave up.

        Raises:
          WorkersFailed: They ended, or were not ready in time.
        """
        deadline = time.monotonic() + timeout_s
        while self.log.read_bytes().count(READY) < self._count:
            self.check()
            if time.monotonic() > deadline:
                raise WorkersFailed(
                    f"The worker processes were not ready within {timeout_s:g} s", self.log
                )
            if wait(LOOK_S):
                return False
        return True

    def check(self) -> None:
        """Asks whether the command still runs.

        Raises:
          WorkersFailed: It does not; Dramatiq ends all of its workers when one has died.
        """
        code = self._process.poll()
        if code is not None:
            raise WorkersFailed(
                f"The worker processes ended by themselves (exit code {code})", self.log
            )

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> bool:
        """Ends all processes: by SIGTERM, which lets them settle what they run, or else by SIGKILL.

        Only the first call does anything.

        Parameters:
          hurry: Asked all the while; True kills at once.

        Returns:
          Whether they ended by themselves.
        """
        if self._stopped:
            return self._process.poll() == 0
        self._stopped = True
        deadline = time.monotonic() + STOP_S
        if self._process.poll() is None and not hurry():
            self._process.terminate()
        while self._process.poll() is None and not hurry() and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        graceful = self._process.poll() == 0
        # Also where the main process has ended: it may have been killed, and have left its workers.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(KILLED_S)
        self._wait_for_group(time.monotonic() + KILLED_S)
        return graceful

    def _wait_for_group(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            try:
                os.killpg(self._process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(LOOK_S)


def _environment(settings: Settings, lifeline: Path, ours: Mapping[str, str]) -> dict[str, str]:
    """The environment of worker processes: the demo's settings, and nobody else's."""
    kept = {
        name: value
        for name, value in ours.items()
        if not name.upper().startswith("STREAMATIQ_") or name == "STREAMATIQ_SERVER_BINARY"
    }
    return kept | {
        "PYTHONUNBUFFERED": "1",
        # Milliseconds: threads look for the end more often than each second, for a quick stop.
        "dramatiq_worker_timeout": "200",
        VARIABLE: str(lifeline),
        "STREAMATIQ_NAMESPACE": settings.namespace,
        "STREAMATIQ_REDIS__URL": settings.redis.url,
        "STREAMATIQ_EVENT_BUS__IDEMPOTENCY_WINDOW": str(settings.event_bus.idempotency_window),
        "STREAMATIQ_WORKERS__HANDLERS": ",".join(settings.workers.handlers),
        "STREAMATIQ_AUDIT__LEVEL": settings.audit.level,
    }
