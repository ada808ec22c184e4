"""What this process holds of one queue and has not begun: what may run now, and what waits.

Two kinds: `Lanes`, where every entry may run as soon as a thread is free, the higher lanes first;
and `Gates` (`gates.py`), where entries of one key run one by one and in their order. In both,
entries that a guard stops (a halt, an open breaker) are put aside, and looked at again when the
guards change or the time has come.

Not thread-safe: the buffer's lock guards a shelf.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from .claimed import Claimed
from .gatekeeping import Gatekeeper
from .guard_state import Subject

__all__ = ["MAX_WAITING", "Lanes", "Shelf"]

#: Entries that may wait on a shelf; while there are as many, nothing more is read.
MAX_WAITING = 5_000


class Shelf(Protocol):
    """See the module. Counts are of entries."""

    @property
    def ready(self) -> int:
        """Those that may run, as far as is known."""

    @property
    def waiting(self) -> int:
        """Those that wait: for their key's turn, for a retry, for a guard."""

    @property
    def soon(self) -> int:
        """Of those that wait, those that wait for nothing but others that run or may run."""

    @property
    def next_look(self) -> float:
        """Monotonic time at which to look at what waits; inf if only a change helps."""

    def put(self, claimed: Sequence[Claimed]) -> list[Claimed]:
        """Adds entries; returns those that became needless by it."""

    def put_back(self, claimed: Sequence[Claimed], hold_s: float = 0.0) -> list[Claimed]:
        """Entries that were taken and not run: to their place in front, where all that is alike
        waits for `hold_s`. Returns the needless."""

    def pop(self, most: int) -> list[Claimed]:
        """Takes out what may run now, at most `most` entries."""

    def ended(self, claimed: Claimed, *, returns: bool) -> None:
        """An entry that was taken was settled; or it `returns`: it was parked, or handed back."""

    def recheck(self) -> None:
        """The guards have changed."""

    def drain(self, unless: str | None) -> list[Claimed]:
        """Takes out everything, but for what was claimed under the name `unless`."""


class Lanes:
    """Entries in the order of their lanes.

    Parameters:
      gatekeeper: Tells what may run.
      clock_s: Monotonic clock, seconds.
    """

    def __init__(
        self, gatekeeper: Gatekeeper, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._gatekeeper = gatekeeper
        self._clock_s = clock_s
        self._lanes: tuple[deque[Claimed], ...] = (deque(), deque(), deque())
        self._ready = 0
        #: What a guard stops, by what it asked for, and when to ask again.
        self._held: dict[Subject, tuple[float, deque[Claimed]]] = {}
        self._waiting = 0
        self._next_look = math.inf

    @property
    def ready(self) -> int:
        """See `Shelf`."""
        return self._ready

    @property
    def waiting(self) -> int:
        """See `Shelf`."""
        return self._waiting

    @property
    def soon(self) -> int:
        """See `Shelf`. Nothing here waits for its turn."""
        return 0

    @property
    def next_look(self) -> float:
        """See `Shelf`."""
        return self._next_look

    def put(self, claimed: Sequence[Claimed]) -> list[Claimed]:
        """See `Shelf`."""
        for one in claimed:
            self._lanes[0 if one.aged else one.source.lane].append(one)
        self._ready += len(claimed)
        return []

    def put_back(self, claimed: Sequence[Claimed], hold_s: float = 0.0) -> list[Claimed]:
        """See `Shelf`."""
        for one in reversed(claimed):
            if hold_s:
                self._hold(one, self._gatekeeper.subject(one), self._clock_s() + hold_s, first=True)
            else:
                self._lanes[0 if one.aged else one.source.lane].appendleft(one)
                self._ready += 1
        return []

    def pop(self, most: int) -> list[Claimed]:
        """See `Shelf`."""
        if self._held and self._clock_s() >= self._next_look:
            self._release(self._clock_s())
        taken: list[Claimed] = []
        free = self._gatekeeper.quiet and not self._held
        for lane in self._lanes:
            while lane and len(taken) < most:
                one = lane[0]
                if taken and one.cap and len(taken) >= one.cap:
                    return taken
                lane.popleft()
                self._ready -= 1
                if not free and self._stopped(one):
                    continue
                taken.append(one)
                if one.cap:
                    most = min(most, one.cap)
        return taken

    def _stopped(self, one: Claimed) -> bool:
        subject = self._gatekeeper.subject(one)
        if subject not in self._held:
            at = self._gatekeeper.admit(subject)
            if at is None:
                return False
            self._hold(one, subject, at)
        else:
            # Behind what waits already for the same: nothing overtakes.
            self._hold(one, subject, math.inf)
        return True

    def _hold(self, one: Claimed, subject: Subject, at: float, *, first: bool = False) -> None:
        until, entries = self._held.get(subject, (math.inf, deque()))
        self._held[subject] = (min(until, at), entries)
        self._next_look = min(self._next_look, at)
        bare = one.bare()._replace(subject=subject)
        if first:
            entries.appendleft(bare)
        else:
            entries.append(bare)
        self._waiting += 1

    def ended(self, claimed: Claimed, *, returns: bool) -> None:
        """See `Shelf`."""

    def recheck(self) -> None:
        """See `Shelf`."""
        self._release(math.inf)

    def _release(self, now: float) -> None:
        """What waits until `now` may ask again."""
        for subject in [one for one, (at, _) in self._held.items() if at <= now]:
            _, entries = self._held.pop(subject)
            self._waiting -= len(entries)
            self.put_back(list(entries))
        self._next_look = min((at for at, _ in self._held.values()), default=math.inf)

    def drain(self, unless: str | None) -> list[Claimed]:
        """See `Shelf`."""
        self._release(math.inf)
        drained: list[Claimed] = []
        for lane in self._lanes:
            kept = [one for one in lane if one.consumer == unless]
            drained += [one for one in lane if one.consumer != unless]
            lane.clear()
            lane.extend(kept)
        self._ready -= len(drained)
        return drained
