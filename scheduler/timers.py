"""APScheduler as we use it: its timer, and its pool of threads.

It holds one job a schedule, in its memory store, for the next wake-up; what is stored, planned and
recorded is ours. So nothing of its own about missed runs or overlap comes into play: a job fires
once, however late, and sets the next one itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from apscheduler.executors.pool import ThreadPoolExecutor  # type: ignore[import-untyped]
from apscheduler.jobstores.base import JobLookupError  # type: ignore[import-untyped]
from apscheduler.jobstores.memory import MemoryJobStore  # type: ignore[import-untyped]
from apscheduler.schedulers.background import (  # type: ignore[import-untyped]
    BackgroundScheduler,
)
from apscheduler.triggers.date import DateTrigger  # type: ignore[import-untyped]

__all__ = ["ServerClock", "TermTimer", "Timers"]

#: No limit of APScheduler's: how many runs there may be is decided on the server.
_NO_LIMIT = 1_000_000


class ServerClock:
    """The server's clock, as far as it is known. Thread-safe: one number.

    Fire times go by it, so that leaders on hosts with different clocks agree.

    Parameters:
      local_ms: This host's clock, ms since 1970 UTC.
    """

    def __init__(self, local_ms: Callable[[], float] = lambda: time.time() * 1000) -> None:
        self._local_ms = local_ms
        #: What is to be added to this host's clock, ms.
        self._ahead_ms = 0.0

    def set(self, server_ms: float) -> bool:
        """Takes in what the server's clock shows now; True if it moved by more than a second."""
        before, self._ahead_ms = self._ahead_ms, server_ms - self._local_ms()
        return abs(self._ahead_ms - before) > 1000

    def now_ms(self) -> int:
        """What it shows now, ms since 1970 UTC."""
        return int(self._local_ms() + self._ahead_ms)

    def local(self, server_ms: int) -> datetime:
        """When this host's clock will show what it does when the server's shows that."""
        moment = datetime(1970, 1, 1, tzinfo=UTC)
        return moment + timedelta(milliseconds=server_ms - self._ahead_ms)


class Timers:
    """Wake-ups of schedules, and the threads that their runs have. Thread-safe.

    Parameters:
      clock: What wake-ups go by.
      threads: Runs at a time, at most.
    """

    def __init__(self, clock: ServerClock, *, threads: int) -> None:
        self._clock = clock
        # What it says of each job is said by us.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._scheduler = BackgroundScheduler(
            jobstores={"default": MemoryJobStore()},
            executors={"default": ThreadPoolExecutor(threads)},
            job_defaults={
                "misfire_grace_time": None,
                "coalesce": True,
                "max_instances": _NO_LIMIT,
            },
            timezone=UTC,
            daemon=True,
        )
        self._lock = threading.Lock()  # guards _term, and that jobs are those of its wishes
        self._term: TermTimer | None = None
        self._scheduler.start()

    def begin(self) -> TermTimer:
        """A new term: whatever was wished before is dropped, and so is what earlier terms wish."""
        with self._lock:
            self._term = TermTimer(self)
            self._scheduler.remove_all_jobs()
            return self._term

    def end(self) -> None:
        """Nothing is fired any more until the next term."""
        with self._lock:
            self._term = None
            self._scheduler.remove_all_jobs()

    def wake(self, term: TermTimer, name: str, at_ms: int) -> None:
        """See `TermTimer.wake`."""
        at = self._clock.local(max(at_ms, 1))
        with self._lock:
            if self._term is term:
                self._scheduler.add_job(
                    term.fire,
                    DateTrigger(at, timezone=UTC),
                    args=(name,),
                    id=name,
                    replace_existing=True,
                )

    def forget(self, term: TermTimer, name: str) -> None:
        """See `TermTimer.forget`."""
        with self._lock:
            if self._term is not term:
                return
            try:
                self._scheduler.remove_job(name)
            except JobLookupError:
                return  # it fires just now, or nothing was wished

    def recheck(self) -> None:
        """Looks at the clock again: it was set."""
        self._scheduler.wakeup()

    @property
    def is_alive(self) -> bool:
        """Whether the timer's thread runs."""
        thread = self._scheduler._thread
        return thread is not None and thread.is_alive()

    def close(self, *, wait: bool) -> None:
        """Ends the timer; with `wait` the threads, too."""
        self._scheduler.shutdown(wait=wait)


class TermTimer:
    """The wake-ups of one term of leadership. Thread-safe.

    A thread of an earlier term may still be busy: its wishes must not take the place of ours.
    """

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        #: What is called, in a thread of the pool. Set before the first wish.
        self.fire: Callable[[str], None] = lambda name: None

    def wake(self, name: str, at_ms: int) -> None:
        """Fires schedule `name` at `at_ms`, the server's clock; at once if that has passed."""
        self._timers.wake(self, name, at_ms)

    def forget(self, name: str) -> None:
        """Fires it no more."""
        self._timers.forget(self, name)
