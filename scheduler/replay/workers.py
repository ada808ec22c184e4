"""Worker processes of a replay: they handle what lies in its namespace, and end with it.

The `dramatiq` command leads a session of its own, so that a terminal's Ctrl-C reaches the replay
first. On Linux it gets SIGTERM when the replay's process dies, however it dies; elsewhere it is
left behind by a kill -9, and handles on until somebody ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ...broker.connections import Link, LinkPool
from ...broker.keys import Keys
from ...broker.known_queues import known_queues
from ...errors import CommandFailed, InvalidReplay, ReplayError

__all__ = ["ReplayWorkers", "WorkerOptions"]

#: What a worker process says once it has made its consumer groups and begun to read.
READY = b"Worker process is ready for action."
#: Seconds between two looks at processes, or at what they have left to handle.
LOOK_S = 0.05
#: Seconds until worker processes must be ready.
READY_S = 60.0
#: Seconds that worker processes may take to settle what they run.
STOP_S = 15.0
#: Lines of their log that a failure shows.
TAIL_LINES = 12
#: How long ids and done marks are remembered in a replay's namespace, seconds: it may be resumed.
WINDOW_S = 30 * 24 * 3600
#: Asks Linux for SIGTERM (15) when the parent dies (PR_SET_PDEATHSIG, 1), which holds through exec,
#: and becomes the command: its main process, which then ends its workers.
_FOLLOW = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 15)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("The replay has ended.")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Worker processes for a replay.

    Parameters:
      processes: How many.
      threads: Threads in each.
      handlers: Modules that they load.

    Raises:
      InvalidReplay: A number is below 1 (processes: below 0), or no module is named.
    """

    processes: int = 1
    threads: int = 8
    handlers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("processes", 0), ("threads", 1)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= 1000:
                raise InvalidReplay(f"{name} is {value!r}; give a number from {least} to 1000.")
        if self.processes and not self.handlers:
            raise InvalidReplay(
                "Worker processes need modules of handlers: name them, or set workers.handlers."
            )


class ReplayWorkers:
    """The worker processes of one replay. For one thread, but `interrupt`.

    Parameters:
      keys: The replay's namespace.
      url: The server.
    """

    def __init__(self, keys: Keys, url: str, links: LinkPool, options: WorkerOptions) -> None:
        self._keys = keys
        self._url = url
        self._links = links
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None
        self._stopped = threading.Event()

    def start(self, tick: Callable[[], None]) -> None:
        """Starts them, and waits until they read.

        Parameters:
          tick: Called now and then meanwhile.

        Raises:
          ReplayError: They ended, or were not ready in time; shows the end of their log.
        """
        self._stopped.clear()
        descriptor, name = tempfile.mkstemp(prefix="streamatiq-replay-", suffix=".log")
        self._log = Path(name)
        options = self._options
        with os.fdopen(descriptor, "wb") as output:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-c", _FOLLOW, str(os.getpid())),
                    *("-m", "dramatiq", "streamatiq.workers"),
                    *("-p", str(options.processes), "-t", str(options.threads)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment(os.environ),
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_S
        while self._log.read_bytes().count(READY) < options.processes:
            self.check()
            if time.monotonic() > deadline:
                raise ReplayError(self._told(f"were not ready within {READY_S:g} s"))
            if self._stopped.wait(LOOK_S):
                return
            tick()

    def check(self) -> None:
        """Raises:
        ReplayError: They do not run any more.
        """
        if self._process is not None and (code := self._process.poll()) is not None:
            raise ReplayError(self._told(f"ended by themselves (exit code {code})"))

    def drain(self, tick: Callable[[], None]) -> bool:
        """Waits until they have handled all there is, and what followed from it.

        Returns:
          Whether they have; False if it was interrupted.

        Raises:
          ReplayError: They ended by themselves.
        """
        while not self._links.call(self._is_drained):
            self.check()
            if self._stopped.wait(LOOK_S):
                return False
            tick()
        return True

    def interrupt(self) -> None:
        """Ends `start` and `drain` early. Thread-safe."""
        self._stopped.set()

    def stop(self) -> None:
        """Ends them: what they run is settled first. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
        # Also where the main process has ended: it may have left its workers.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if self._log is not None:
            self._log.unlink(missing_ok=True)

    def _is_drained(self, link: Link) -> bool:
        """Whether nothing waits anywhere. What a handler emits is there as soon as its event is
        settled; so if nothing was added while we looked, nothing was missed."""
        streams = {
            source.keys.entries
            for queue in known_queues(link, self._keys).values()
            for source in queue.sources
        }
        before = _added(link, streams)
        for key in streams:
            for group in _groups(link, key):
                if group[b"pending"] or group[b"lag"] is None or group[b"lag"]:
                    return False
        return bool(streams) and _added(link, streams) == before

    def _environment(self, ours: Mapping[str, str]) -> dict[str, str]:
        variables = {
            "PYTHONUNBUFFERED": "1",
            "dramatiq_worker_timeout": "200",  # ms: a quick stop
            "STREAMATIQ_NAMESPACE": self._keys.namespace,
            "STREAMATIQ_REDIS__URL": self._url,
            "STREAMATIQ_EVENT_BUS__IDEMPOTENCY_WINDOW": str(WINDOW_S),
            "STREAMATIQ_WORKERS__HANDLERS": ",".join(self._options.handlers),
        }
        return {**ours, **variables}

    def _told(self, what: str) -> str:
        assert self._log is not None
        tail = self._log.read_text("utf-8", "replace").splitlines()[-TAIL_LINES:]
        return f"The replay's worker processes {what}. Their log ends: " + " | ".join(tail)


def _added(link: Link, streams: set[str]) -> int:
    total = 0
    for key in sorted(streams):
        if link.send("EXISTS", key):
            flat = link.send("XINFO", "STREAM", key)
            total += dict(zip(flat[::2], flat[1::2], strict=True))[b"entries-added"]
    return total


def _groups(link: Link, key: str) -> list[dict[bytes, int | None]]:
    try:
        groups = link.send("XINFO", "GROUPS", key)
    except CommandFailed:
        return []  # there is no such stream
    return [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in groups]
