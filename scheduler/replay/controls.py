"""The controls of a replay, which any thread may use: pause, resume, step, seek, speed, cancel.

They take the same lock as the one that drives it, so that they hold from its next `poll` on, and
wake it at once if it waits.

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from ...errors import InvalidReplay, ReplayError
from .items import Place, parse_place
from .merge import Merge
from .pace import Pace
from .progress import Progress
from .spec import FLAT_OUT, Speed, checked_speed, moment_ns

__all__ = ["Controlled", "Status"]


class Status(StrEnum):
    """What a replay does."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"
    #: This process stops; another one may go on.
    INTERRUPTED = "interrupted"


class Controlled:
    """One replay on its way, and who controls it. Thread-safe: `_lock` guards everything.

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
