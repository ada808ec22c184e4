"""Sends events at their recorded pace times a factor, against an absolute clock.

The first event sets both zeros. Every later one is due at a moment that follows from these alone,
so that the time spent on publishing never adds up to drift: who falls behind catches up. An event
whose time lies before its predecessor's is due at once; nothing is reordered.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..errors import IngestError

__all__ = ["Pacer"]

#: Nanoseconds in a second.
_NS: int = 1_000_000_000


class Pacer:
    """Tells how long it is until an event is due.

    Parameters:
      speed: Recorded seconds per second; 1 is the recorded pace.
      clock_s: A clock that never steps back, in seconds.

    Raises:
      IngestError: `speed` is not a finite number above 0.
    """

    def __init__(self, speed: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        if not 0 < speed < float("inf"):
            raise IngestError(f"speed is {speed!r}; it must be 'max' or a number above 0")
        self._ns_per_s = speed * _NS
        self._clock_s = clock_s
        self._first_ns: int | None = None
        self._start_s = 0.0
        #: Furthest that an event was behind its time, in seconds.
        self.most_behind_s = 0.0

    def wait_s(self, recorded_ns: int) -> float:
        """Seconds until the event recorded at this time is due; 0 if it is due."""
        now_s = self._clock_s()
        if self._first_ns is None:
            self._first_ns, self._start_s = recorded_ns, now_s
        return max(0.0, self._due_s(recorded_ns) - now_s)

    def sent(self, recorded_ns: int) -> None:
        """Notes that the event recorded at this time was published by now."""
        behind_s = self._clock_s() - self._due_s(recorded_ns)
        self.most_behind_s = max(self.most_behind_s, behind_s)

    def _due_s(self, recorded_ns: int) -> float:
        # Subtracting ints first keeps the precision that a float of the epoch would lose.
        return self._start_s + (recorded_ns - (self._first_ns or 0)) / self._ns_per_s
