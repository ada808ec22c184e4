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
from .processes import Child, ChildFailed, Workers, anonymous_bytes, process_cpu_s
from .sending import WARM_UP
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
    def stage(
        self,
        system: System,
        capacity: int = 1,
        *,
        work_ms: float = 0.0,
        queues: int = 1,
        variant: str = "",
    ) -> Iterator[Stage]:
        """Set a stage for `capacity` messages, and remove everything of it at the end.

        Args:
            system: what is put on it.
            capacity: messages that may be handled, by number from 0.
            work_ms: how long handlers sleep.
            queues: queues that workers read; messages go to one of them.
            variant: which variant of itself the system is to be.
        """
        namespace = f"bench-{uuid.uuid4().hex[:12]}"
        prefix = f"{_LEDGER_PREFIX}{os.getpid()}-"
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=_ledger_root()))
        ledger = Ledger.create(folder / "ledger", capacity)
        try:
            target = Target(self.server.url, namespace, folder / "ledger", work_ms, queues, variant)
            yield Stage(self, system, ledger, target)
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

        Returns: what the producer says of itself: `abilities`.

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

    def fill(self, first: int, messages: int) -> float:
        """Send messages from number `first` on that are due in a day; return the seconds it took.

        Raises:
            ChildFailed: the producer failed or took too long.
        """
        limit_s = _PRODUCER_START_S + messages * _PRODUCER_MESSAGE_S
        options = ["--first", str(first), "--messages", str(messages)]
        return float(self._produce(limit_s, "fill", *options)["seconds"])

    def warm_up(self, workers: Workers) -> None:
        """Send messages 0 to `WARM_UP` - 1 and wait until they are handled.

        Raises:
            ChildFailed: the producer failed, or they were not handled in time.
        """
        with self.load("warm", 0, 0) as producer:
            self.wait(workers, producer.ended, producer)
            producer.result()

    def send_paced(self, workers: Workers, messages: int, rate_per_s: float) -> None:
        """Warm the workers up, then send `messages` on schedule; returns when all are sent.

        Raises:
            ChildFailed: the producer failed, or the warm-up was not handled in time.
        """
        with self.load("paced", WARM_UP, messages, rate_per_s, warm_up=True) as producer:
            try:
                producer.result()
            except ChildFailed as failure:
                said = workers.last_lines()
                raise ChildFailed(f"{failure}; the workers said: {said}") from None

    def load(
        self,
        mode: str,
        first: int,
        messages: int,
        rate_per_s: float = 0.0,
        *,
        warm_up: bool = False,
    ) -> Child:
        """Start a producer that sends in the background; use the result as a context manager.

        Args:
            mode: of the producer: `warm`, `paced`, `delayed`, `together`, `steady` or `flood`.
            first: number of its first message.
            messages: how many it sends.
            rate_per_s: how many a second, where the mode has a rate.
            warm_up: whether it sends the warm-up messages before, and waits for them.
        """
        warm_up_s = self.bench.stall_s
        each_s = _PRODUCER_MESSAGE_S + (1 / rate_per_s if rate_per_s else 0.0)
        limit_s = _PRODUCER_START_S + warm_up_s + messages * each_s
        options = ["--first", str(first), "--messages", str(messages), "--rate", str(rate_per_s)]
        flags = ["--warm-up"] if warm_up else []
        command = self._command(mode, *options, *flags, "--timeout", str(warm_up_s))
        return Child(command, self.target.to_env(), limit_s)

    def is_settled(self, delayed: int = 0) -> bool:
        """Whether the system has nothing queued or unacknowledged, after a moment of patience.

        Args:
            delayed: messages that must still be there, waiting for their time.
        """
        limit_s = _SETTLE_TIMEOUT_S + _PRODUCER_START_S
        options = ["--timeout", str(_SETTLE_TIMEOUT_S), "--delayed", str(delayed)]
        return bool(self._produce(limit_s, "settled", *options)["settled"])

    def start_workers(
        self, processes: int, *, threads: int | None = None, apart: bool = False
    ) -> Workers:
        """Start the system's worker processes; use the result as a context manager.

        Args:
            processes: how many.
            threads: worker threads a process; default: `Bench.threads`.
            apart: each by a command of its own, so that the end of one does not stop the others.
        """
        threads = threads or self.bench.threads
        if apart:
            commands = self.system.worker_commands(1, threads) * processes
        else:
            commands = self.system.worker_commands(processes, threads)
        return Workers(
            commands,
            self.target.to_env(),
            self.bench.log_dir / f"{self.system.name}-{self.target.namespace}.log",
        )

    def wait(
        self, workers: Workers, done: Callable[[], bool], producer: Child | None = None
    ) -> None:
        """Wait until `done()`, as long as the workers live and go on handling messages.

        Args:
            workers: what must live.
            done: what is waited for; asked every 20 ms.
            producer: a producer that must not fail meanwhile.

        Raises:
            ChildFailed: a worker or the producer failed, or nothing was handled for
                `Bench.stall_s`.
        """
        seen, seen_at = -1, time.monotonic()
        while not done():
            workers.check()
            if producer is not None:
                producer.check()
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

    def worker_bytes(self) -> int | None:
        """Sum up the memory of the workers that have handled something; None if it is not known."""
        sizes = [anonymous_bytes(pid) for pid in self.ledger.pids]
        known = [size for size in sizes if size is not None]
        return sum(known) if known and len(known) == len(sizes) else None

    def _produce(self, limit_s: float, mode: str, *options: str) -> dict[str, Any]:
        with Child(self._command(mode, *options), self.target.to_env(), limit_s) as child:
            result: dict[str, Any] = json.loads(child.result())
        return result

    def _command(self, mode: str, *options: str) -> list[str]:
        return [sys.executable, "-m", "benchmarks.producer", self.system.app, mode, *options]
