"""When an intake runs entries that may have killed their worker.

Such an entry runs with nothing beside it in its process: the other intakes hold back until nothing
is held, and while it runs. Where a long handler keeps the process from being empty, another process
may be; attempts therefore become rarer, and after a while an entry is taken beside what runs, so
that it is not kept waiting for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum

from .in_flight import InFlight

__all__ = ["QUIET_S", "Suspects", "Turn"]

#: Seconds that this process may take to become empty, and a suspect to show that it does no harm.
QUIET_S = 2.0
#: Seconds between two attempts; doubles while the process does not become empty.
EVERY_S = 1.0
#: Longest time between two attempts, seconds.
RARELY_S = 16.0
#: Seconds after which a suspect runs although this process never became empty.
PATIENCE_S = 30.0


class Turn(Enum):
    """How suspects may be run now."""

    #: Nothing else is held, and nobody else claims anything until `Suspects.end`.
    ALONE = "alone"
    #: One entry, beside what runs.
    BESIDE = "beside"
    #: Not now.
    NO = "no"


class Suspects:
    """The turns of one intake. Not thread-safe: the intake's thread alone uses it.

    Parameters:
      in_flight: What this process holds.
      clock_s: Monotonic clock, seconds.
    """

    def __init__(self, in_flight: InFlight, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._in_flight = in_flight
        self._clock_s = clock_s
        self._every_s = EVERY_S
        self._next_s = 0.0
        self._waiting_since: float | None = None

    def is_due(self) -> bool:
        """Whether it is worth asking for a turn."""
        return self._clock_s() >= self._next_s

    def begin(self) -> Turn:
        """Asks for a turn; may wait for `QUIET_S`. After ALONE, `end` must follow."""
        now = self._clock_s()
        if now < self._next_s:
            return Turn.NO
        if self._in_flight.begin_alone(self, QUIET_S):
            self._waiting_since = None
            self._every_s = EVERY_S
            return Turn.ALONE
        now = self._clock_s()
        self._next_s = now + self._every_s
        self._every_s = min(2 * self._every_s, RARELY_S)
        if self._waiting_since is None:
            self._waiting_since = now
        if now - self._waiting_since < PATIENCE_S:
            return Turn.NO
        self._waiting_since = now
        return Turn.BESIDE

    def harmless(self) -> bool:
        """Waits until the entry that runs alone is settled; False if it runs for long."""
        return self._in_flight.wait_until_empty(QUIET_S)

    def end(self) -> None:
        """Gives the turn back."""
        self._in_flight.end_alone()
        self._next_s = self._clock_s() + EVERY_S
