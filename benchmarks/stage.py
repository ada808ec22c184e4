"""The stage of one measure: an emptied server, a namespace, a ledger, and its child processes."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .apps.base import Target
from .ledger import Ledger
from .processes import ChildFailed, Workers, process_cpu_s, run_child
from .server import BenchServer
from .systems import System

__all__ = ["Bench", "CpuReading", "Stage", "remove_abandoned_ledgers"]

#: Folder names of ledgers begin so; the process id of their bench follows.
_LEDGER_PREFIX = "streamatiq-bench-ledger-"

#: Seconds between two looks at the ledger.
_POLL_S = 0.02

#: Seconds in which a system must have settled everything that it has handled.
_SETTLE_TIMEOUT_S = 15.0

#: Seconds that a producer may take to start and end, and per message at the slowest.
_PRODUCER_START_S, _PRODUCER_MESSAGE_S = 60.0, 0.01


def remove_abandoned_ledgers() -> None:
    """Remove the ledgers of benches that were killed: shared memory is memory until then."""
    for folder in _ledger_root().glob(f"{_LEDGER_PREFIX}*-*"):
        pid = int(folder.name.removeprefix(_LEDGER_PREFIX).partition("-")[0])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)  # another bench may be at it too
        except PermissionError:
            continue  # it lives, and is another user's


def _ledger_root() -> Path:
    # Shared memory if there is any: pages of a file on disk would be written back meanwhile.
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else Path(tempfile.gettempdir())


@dataclass(frozen=True, slots=True)
class CpuReading:
    """CPU seconds used so far, and how many messages were handled by then.

    Attributes:
        handled: messages.
        workers_s: sum over the worker processes; None where the system has no such clock.
        server_s: the server's.
    """

    handled: int
    workers_s: float | None
    server_s: float


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measure of a run shares.

    Attributes:
        server: the server to measure on.
        threads: worker threads per process of a system under Dramatiq.
        log_dir: folder for what worker processes log.
        stall_s: seconds without one more handled message after which a measure has failed.
    """

    server: BenchServer
    threads: int
    log_dir: Path
    stall_s: float = 20.0

    @contextmanager
    def stage(self, system: System, capacity: int = 1) -> Iterator[Stage]:
        """Set a stage for `capacity` messages, and remove everything of it at the end."""
        namespace = f"bench-{uuid.uuid4().hex[:12]}"
        prefix = f"{_LEDGER_PREFIX}{os.getpid()}-"
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=_ledger_root()))
        ledger = Ledger.create(folder / "ledger", capacity)
        try:
            yield Stage(self, system, ledger, Target(self.server.url, namespace, folder / "ledger"))
        finally:
            ledger.close()
            shutil.rmtree(folder)
            self.server.reset(namespace)


@dataclass(frozen=True, slots=True)
class Stage:
    """One system on one stage; see the module."""

    bench: Bench
    system: System
    ledger: Ledger
    target: Target

    def prepare(self) -> dict[str, Any]:
        """Import the system in a producer process and have it create what it needs.

        Returns: what the producer says of itself: `has_bulk`.

        Raises:
            ChildFailed: the system cannot run.
        """
        return self._produce(_PRODUCER_START_S, "check")

    def enqueue(self, messages: int, *, bulk: bool) -> float:
        """Send messages 0 to `messages` - 1 and return the seconds it took.

        Raises:
            ChildFailed: the producer failed or took too long.
        """
        limit_s = _PRODUCER_START_S + messages * _PRODUCER_MESSAGE_S
        flags = ["--bulk"] if bulk else []
        result = self._produce(limit_s, "enqueue", "--messages", str(messages), *flags)
        return float(result["seconds"])

    def send_paced(self, workers: Workers, messages: int, rate_per_s: int) -> None:
        """Warm the workers up, then send `messages` on schedule; returns when all are sent.

        Raises:
            ChildFailed: the producer failed, or the warm-up was not handled in time.
        """
        warm_up_s = self.bench.stall_s
        limit_s = _PRODUCER_START_S + warm_up_s + messages * (1 / rate_per_s + _PRODUCER_MESSAGE_S)
        options = ["--messages", str(messages), "--rate", str(rate_per_s)]
        try:
            self._produce(limit_s, "paced", *options, "--timeout", str(warm_up_s))
        except ChildFailed as failure:
            said = workers.last_lines()
            raise ChildFailed(f"{failure}; the workers said: {said}") from None

    def is_settled(self) -> bool:
        """Whether the system has nothing queued or unacknowledged, after a moment of patience."""
        limit_s = _SETTLE_TIMEOUT_S + _PRODUCER_START_S
        return bool(
            self._produce(limit_s, "settled", "--timeout", str(_SETTLE_TIMEOUT_S))["settled"]
        )

    def start_workers(self, processes: int) -> Workers:
        """Start the system's worker processes; use the result as a context manager."""
        return Workers(
            self.system.worker_commands(processes, self.bench.threads),
            self.target.to_env(),
            self.bench.log_dir / f"{self.system.name}-{self.target.namespace}.log",
        )

    def wait(self, workers: Workers, done: Callable[[], bool]) -> None:
        """Wait until `done()`, as long as the workers live and go on handling messages.

        Raises:
            ChildFailed: a worker ended, or nothing was handled for `Bench.stall_s`.
        """
        seen, seen_at = -1, time.monotonic()
        while not done():
            workers.check()
            count, now = self.handled(), time.monotonic()
            if count != seen:
                seen, seen_at = count, now
            elif now - seen_at > self.bench.stall_s:
                raise ChildFailed(
                    f"nothing handled for {self.bench.stall_s:.0f} s, after {count} messages; "
                    f"the workers said: {workers.last_lines()}"
                )
            time.sleep(_POLL_S)

    def handled(self) -> int:
        """Count the messages that were handled so far."""
        return self.ledger.handled_count(0, self.ledger.capacity)

    def read_cpu(self) -> CpuReading:
        """Read the CPU clocks of the workers that have handled something, and the server's."""
        times = [process_cpu_s(pid) for pid in self.ledger.pids]
        known = [t for t in times if t is not None]
        return CpuReading(
            handled=self.handled(),
            workers_s=sum(known) if len(known) == len(times) else None,
            server_s=self.bench.server.cpu_s(),
        )

    def _produce(self, limit_s: float, mode: str, *options: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "benchmarks.producer", self.system.app, mode, *options]
        result: dict[str, Any] = json.loads(run_child(command, self.target.to_env(), limit_s))
        return result
