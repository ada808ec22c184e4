"""The engine of a replay: what comes next, when it is due, and what somebody wants otherwise.

One thread drives: `poll`, hand out what is ready, `delivered`. Any thread may pause, resume, step,
seek, change the speed, cancel: under the same lock, so that it holds from the next `poll` on, and
wakes the driver at once if it waits. What was handed out counts as delivered; nothing else does.

        ┌─────────┐  pause   ┌────────┐
   ───▶ │ running │ ───────▶ │ paused │ ── step(n): n events go out, then it stands again
        └─────────┘ ◀─────── └────────┘
          │     │    resume       │
      end │     └── cancel ───────┤
          ▼                       ▼
        done                  cancelled
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ...errors import InvalidReplay, ReplayError
from .items import Place, Replayed, parse_place
from .merge import Merge
from .pace import Pace
from .progress import Progress
from .spec import FLAT_OUT, Speed, checked_speed, moment_ns

__all__ = ["MAX_BATCH", "Batch", "Engine", "Status", "Wait"]

#: Events that are handed out at a time, at most.
MAX_BATCH = 256
#: With more time than this to wait, entries are read ahead, ns.
SPARE_NS = 50_000


class Status(StrEnum):
    """What a replay does."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"
    #: This process stops; another one may go on.
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that are due, in order.

    Parameters:
      dues: When each was due, ns of the clock; None: it had no due time.
      generation: Of the place from which they come.
    """

    items: list[Replayed]
    dues: list[int | None]
    generation: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is due.

    Parameters:
      until_ns: Until then, by the clock; None: until somebody says so.
      version: Of what was asked for by then.
    """

    until_ns: int | None
    version: int


class Engine:
    """One replay on its way. Thread-safe: `_lock` guards everything.

    Parameters:
      merge: Its events.
      pace: Its timetable.
      progress: What it has done before, in another process perhaps.
      clock_ns: A clock that never steps back.
    """

    def __init__(
        self,
        merge: Merge,
        pace: Pace,
        *,
        progress: Progress | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.progress = progress or Progress()
        self._merge = merge
        self._pace = pace
        self._clock_ns = clock_ns
        self._lock = threading.Condition(threading.RLock())
        self._ended: Status | None = None
        self._steps = 0
        #: When the last batch was handed out.
        self._last_ns = 0
        self._generation = 0
        #: Counts changes, so that none is missed between `poll` and `wait`.
        self._version = 0
        self._began_ns = clock_ns() - self.progress.running_ns
        self._listeners: list[Callable[[], None]] = []

    # -- the driver ----------------------------------------------------------------------------

    def poll(
        self, limit: int = MAX_BATCH, *, load: bool = True, rest_ns: int = 0
    ) -> Batch | Wait | None:
        """What to hand out now; when to ask again; or None: it has ended.

        Parameters:
          limit: Events at most.
          load: Whether to read what is missing from the server; without, see `must_load`.
          rest_ns: What has a due time waits until so long after the last batch, so that a busy
            replay hands out several at a time. Never early, and late by no more than this.

        Raises:
          EventDecodeError: An entry is no event; names it.
          BrokerError: The server cannot be read.
        """
        with self._lock:
            while True:
                if self._ended is not None:
                    return None
                if not load and self._merge.must_load:
                    return Wait(self._clock_ns(), self._version)
                head = self._merge.peek()
                if self._pace.paused and not (self._steps and head is not None):
                    self._steps = 0  # there is nothing left to step to
                    return Wait(None, self._version)
                if head is None:
                    self._ended = Status.DONE
                    self._note_time()
                    return None
                now_ns = self._clock_ns()
                due_ns = self._pace.due_ns(head.time_ns, now_ns)
                if due_ns is None or self._steps:
                    due_ns = now_ns
                else:
                    due_ns = max(due_ns, self._last_ns + rest_ns)
                if due_ns <= now_ns and (batch := self._due(limit)).items:
                    self._last_ns = now_ns
                    return batch
                spare = load and due_ns - now_ns > SPARE_NS
                if not (spare and self._merge.prefetch()):
                    return Wait(due_ns, self._version)

    def _due(self, limit: int) -> Batch:
        """The next events that are due. In a burst, each microsecond here makes them late."""
        batch = Batch([], [], self._generation)
        items, dues, merge, pace = batch.items, batch.dues, self._merge, self._pace
        now_ns = self._clock_ns()
        time_ns, due_ns = -1, None
        for _ in range(limit):
            # Not to load in the middle: what is due already would wait for it.
            if merge.must_load and items:
                break
            head = merge.peek()
            if head is None:
                break
            if self._steps:
                self._steps -= 1
            elif pace.paused:
                break
            elif head.time_ns != time_ns or pace.is_limited:
                time_ns = head.time_ns
                due_ns = pace.due_ns(time_ns, now_ns)
                if due_ns is not None and due_ns > now_ns:
                    break
            merge.pop()
            pace.taken(head.time_ns, now_ns)
            items.append(head)
            dues.append(due_ns)
        return batch

    @property
    def must_load(self) -> bool:
        """Whether the next `poll` reads from the server."""
        with self._lock:
            return self._ended is None and self._merge.must_load

    def load(self) -> bool:
        """Reads what the next `poll` needs, or else a page ahead; False: there is nothing to read.
        Raises as `poll`."""
        with self._lock:
            if self._merge.must_load:
                self._merge.load()
                return True
            return self._merge.prefetch()

    def delivered(self, batch: Batch) -> None:
        """Counts a batch that `poll` gave."""
        with self._lock:
            now_ns = self._clock_ns()
            self.progress.add(batch.items, moves=batch.generation == self._generation)
            for due_ns, count in Counter(batch.dues).items():
                if due_ns is not None:
                    self.progress.lateness.add(now_ns - due_ns, count)
                    self.progress.late_ns = max(0, now_ns - due_ns)
            self._note_time()

    def wait(self, wait: Wait, longest_s: float | None = None) -> None:
        """Waits until there may be something to do, in the driver's thread.

        Parameters:
          longest_s: At most so long, seconds.
        """
        with self._lock:
            left_s = self.left_s(wait, longest_s)
            if left_s is None or left_s > 0:
                self._lock.wait(left_s)

    def left_s(self, wait: Wait, longest_s: float | None = None) -> float | None:
        """For how long to wait, seconds: 0 if somebody has changed something since; None: until
        somebody does.

        Parameters:
          longest_s: At most so long, seconds.
        """
        with self._lock:
            if wait.version != self._version:
                return 0.0
            if wait.until_ns is None:
                return longest_s
            until_s = max(0.0, (wait.until_ns - self._clock_ns()) / 1e9)
            return until_s if longest_s is None else min(longest_s, until_s)

    def has_spare(self, wait: Wait) -> bool:
        """Whether there is time to read ahead."""
        return wait.until_ns is None or wait.until_ns - self._clock_ns() > SPARE_NS

    @contextmanager
    def listening(self, wake: Callable[[], None]) -> Iterator[None]:
        """Calls `wake`, which must return at once, whenever somebody changes something."""
        with self._lock:
            self._listeners.append(wake)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(wake)

    # -- controls ------------------------------------------------------------------------------

    @property
    def status(self) -> Status:
        """What it does now."""
        with self._lock:
            if self._ended is not None:
                return self._ended
            return Status.PAUSED if self._pace.paused else Status.RUNNING

    @property
    def speed(self) -> float:
        """Recorded seconds per second; infinite: flat out."""
        return self._pace.speed

    @property
    def position_ns(self) -> int | None:
        """The recorded time that it is now; None before the first event."""
        with self._lock:
            return self._pace.position_ns(self._clock_ns())

    def pause(self) -> None:
        """Nothing more goes out. Idempotent.

        Raises:
          ReplayError: It has ended.
        """
        self._change(self._pace.pause, "paused")

    def resume(self) -> None:
        """It goes on where it stood; the time of the pause does not count. Idempotent.

        Raises:
          ReplayError: It has ended.
        """

        def resume(now_ns: int) -> None:
            self._steps = 0
            self._pace.resume(now_ns)

        self._change(resume, "resumed")

    def step(self, count: int = 1) -> None:
        """So many more events go out at once, then it is paused.

        Raises:
          InvalidReplay: `count` is no int of 1 or more.
          ReplayError: It has ended.
        """
        if type(count) is not int or count < 1:
            raise InvalidReplay(f"step({count!r:.40}): give a number of events of 1 or more.")

        def step(now_ns: int) -> None:
            self._pace.pause(now_ns)
            self._steps += count

        self._change(step, "stepped")

    def set_speed(self, speed: Speed) -> None:
        """Another speed from now on.

        Raises:
          InvalidReplay: It is neither "max" nor a number above 0.
          ReplayError: It has ended.
        """
        number = checked_speed(speed)
        self._change(lambda now_ns: self._pace.change(number, now_ns), "sped up")

    def seek(self, to: Any) -> None:
        """Goes on elsewhere in the range, forwards or backwards; a pause goes on.

        Parameters:
          to: A time: the first event of that time or later is next. A `Place`, or its text
            TYPE/PART/ENTRY-ID: that event is next. An aware datetime, or ns since 1970.

        Raises:
          InvalidReplay: It is neither, or no event of the range. Nothing has changed.
          ReplayError: It has ended.
          BrokerError: The server cannot be read.
        """
        place, time_ns = _target(to)

        def seek(now_ns: int) -> None:
            if place is not None:
                self._merge.seek_place(place)
            else:
                assert time_ns is not None
                self._merge.seek_time(time_ns)
            head = self._merge.peek()
            self._generation += 1
            self._steps = 0
            self.progress.moved(self._merge.positions())
            if head is not None:
                self._pace.jump(head.time_ns, now_ns)

        self._change(seek, "sent elsewhere")

    def cancel(self) -> None:
        """Ends it. What went out stays. Idempotent, also after its end."""
        self._end(Status.CANCELLED)

    def interrupt(self) -> None:
        """Stops driving it, as if the process ended. Idempotent, also after its end."""
        self._end(Status.INTERRUPTED)

    def _end(self, status: Status) -> None:
        with self._lock:
            if self._ended is None:
                self._ended = status
                self._note_time()
            self._wake()

    def _change(self, change: Callable[[int], None], done: str) -> None:
        with self._lock:
            if self._ended is not None:
                raise ReplayError(f"The replay is {self._ended}; it cannot be {done} any more.")
            change(self._clock_ns())
            self._wake()

    def _wake(self) -> None:
        self._version += 1
        self._lock.notify_all()
        for wake in self._listeners:
            wake()

    def _note_time(self) -> None:
        self.progress.running_ns = self._clock_ns() - self._began_ns

    # -- looking -------------------------------------------------------------------------------

    def snapshot(self) -> tuple[Status, Progress]:
        """What it does, and a copy of what it has done."""
        with self._lock:
            if self._ended is None:
                self._note_time()
            return self.status, Progress.from_json(self.progress.to_json())

    @property
    def is_flat_out(self) -> bool:
        """Whether it has no pace."""
        return self._pace.speed == FLAT_OUT


def _target(to: Any) -> tuple[Place | None, int | None]:
    if isinstance(to, Place):
        return to, None
    if isinstance(to, str):
        place = parse_place(to)
        if place is None:
            raise InvalidReplay(f"seek({to!r:.80}): give TYPE/PART/ENTRY-ID, or a time.")
        return place, None
    time_ns = moment_ns("seek", to)
    if time_ns is None:
        raise InvalidReplay("seek(None): give a time, or a place.")
    return None, time_ns
