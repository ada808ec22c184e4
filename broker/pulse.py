"""What consumption in this process does, seen from outside of its threads.

A heartbeat proves that a process lives, not that it consumes. With each one goes a record: for each
queue what its intake and Dramatiq's consumer thread do, what the worker threads run, and how the
committer gets on. Nothing here takes part in the work. Threads that do it have counters, and what
makes no progress though it could is timed here, from look to look.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from dramatiq import Worker

from .committers import Committers
from .delivery import Delivery
from .health import ProcessHealth, QueueHealth, State
from .identity import Identity
from .in_flight import InFlight
from .intake import Intake

__all__ = ["Pulse", "Since"]


class Since:
    """For how long conditions hold without progress. Thread-safe.

    Parameters:
      clock_s: Monotonic clock, seconds.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._lock = threading.Lock()  # guards _seen
        self._seen: dict[Hashable, tuple[object, float]] = {}

    def stuck_s(self, what: Hashable, is_so: bool, progress: object) -> float:
        """Seconds since the first look at which `is_so`, as at all looks since, and `progress` was
        what it is now; 0.0 if it is not so."""
        with self._lock:
            if not is_so:
                self._seen.pop(what, None)
                return 0.0
            now = self._clock_s()
            before, since = self._seen.get(what, (None, now))
            if before != progress:
                since = now
            self._seen[what] = (progress, since)
            return now - since


class Pulse:
    """Makes the health record of this process. Thread-safe.

    Parameters:
      identity: This process.
      intakes: Its intakes by queue, a copy.
      committer, in_flight: Of this process.
      running: The delivery that each worker thread began last.
      worker: Dramatiq's worker, if there is one.
      clock_s: Monotonic clock, seconds.
    """

    def __init__(
        self,
        identity: Identity,
        intakes: Callable[[], Mapping[str, Intake]],
        committer: Committers,
        in_flight: InFlight,
        running: Mapping[int, Delivery],
        worker: Callable[[], Worker | None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identity = identity
        self._intakes = intakes
        self._committer = committer
        self._in_flight = in_flight
        self._running = running
        self._worker = worker
        self._since = Since(clock_s)

    def look(self) -> ProcessHealth:
        """What it does now."""
        worker = self._worker()
        queues = [self._queue(one, worker) for one in self._intakes().values()]
        runs = [one for one in list(self._running.values()) if not one.settled]
        oldest = min(runs, key=lambda one: one.started_ns, default=None)
        threads = list(worker.workers) if worker is not None else []
        alive = sum(thread.is_alive() for thread in threads)
        paused = any(thread.paused for thread in threads)
        handed_out = sum(one.handed_out for one in queues)
        may_start = bool(alive) and not paused and len(runs) < min(alive, handed_out)
        committer = self._committer
        return ProcessHealth(
            consumer=self._identity.consumer,
            queues=queues,
            threads=len(threads),
            threads_alive=alive,
            running=len(runs),
            running_s=(time.time_ns() - oldest.started_ns) / 1e9 if oldest is not None else 0.0,
            running_what=f"{oldest.queue_name}: {oldest.actor_name}" if oldest is not None else "",
            unstarted_s=self._since.stuck_s("start", may_start, _begun(self._running)),
            unsettled=committer.unsettled,
            unsettled_s=max(
                self._since.stuck_s(f"settle {at}", one.unsettled > 0, one.batches)
                for at, one in enumerate(committer.each)
            ),
            committer=committer.is_alive,
        )

    def _queue(self, intake: Intake, worker: Worker | None) -> QueueHealth:
        view = intake.view()
        buffer = view.buffer
        thread: Any = None if worker is None else worker.consumers.get(intake.name)
        asked_to_pause = thread is None or thread.paused
        has_room = buffer.has_room and not buffer.paused
        may_read = has_room and view.started and not self._in_flight.someone_is_alone()
        name = intake.name
        return QueueHealth(
            name=name,
            state=_state(view.started, buffer.paused, buffer.has_room),
            held=buffer.buffered + buffer.handed_out,
            handed_out=buffer.runs,
            unread_s=self._since.stuck_s((name, "read"), may_read, view.reads),
            idle_s=self._since.stuck_s((name, "take"), may_read, buffer.taken),
            unasked_s=self._since.stuck_s(
                (name, "ask"), buffer.paused and not asked_to_pause, buffer.last_asked
            ),
            intake=view.is_alive,
            consumer=thread is None or thread.is_alive(),
            trouble=view.trouble[:200],
        )


def _state(started: bool, paused: bool, has_room: bool) -> State:
    if not started:
        return State.NEW
    if paused:
        return State.PAUSED
    return State.READING if has_room else State.FULL


def _begun(running: Mapping[int, Delivery]) -> object:
    return sorted((one.started_ns, one.entry_id) for one in list(running.values()))
