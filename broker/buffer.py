"""The local buffer of one queue: what was claimed and waits for Dramatiq's consumer.

The order in which entries are taken, and what of them must wait, is its shelf's affair. The buffer
sits between the intake's thread, which puts entries in while there is room, and the consumer, which
takes them out as slots become free. `_lock` guards everything in it, the shelf too; the consumer
waits on `_takeable`, the intake on `_fetchable`, so that neither wakes the other for nothing.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple, TypeVar

from .claimed import Claimed
from .gatekeeping import Gatekeeper
from .gates import Gates
from .in_flight import InFlight
from .room import Room
from .shelf import MAX_WAITING, Lanes, Shelf
from .sources import Source

T = TypeVar("T")

__all__ = ["PAUSED", "Buffer", "BufferView", "Claimed"]

#: Seconds without a `take` after which the consumer counts as paused; it asks every second.
PAUSE_S = 2.0
#: Entries that wait for their key's turn, from which on no other keys are looked for, unless they
#: last for more than `READ_AHEAD_S` seconds: then they will not be run soon.
READ_AHEAD = 1_000
READ_AHEAD_S = 1.0
#: What `wait_for_room` returns when the consumer is paused.
PAUSED = -1


class BufferView(NamedTuple):
    """What a health record says of a buffer."""

    buffered: int
    handed_out: int
    has_room: bool
    #: Whether nobody asks for entries.
    paused: bool
    #: Entries that were ever put in.
    taken: int
    #: When the consumer asked last, monotonic clock.
    last_asked: float
    #: Of the buffered ones, those that wait: for their key's turn, a retry, or a guard.
    waiting: int = 0
    #: Runs of handlers that the entries handed out are for, at least.
    runs: int = 0


class Buffer:
    """Thread-safe.

    Parameters:
      in_flight: What this process holds; what is put in is added.
      threads: Worker threads of this process.
      batch_size: Entries that one fetch takes at most.
      shelf: Where entries lie; default: all may run at once, by lane.
      batch: Entries that a handler takes at a time.
      eager: Read on whatever lies here: what is new makes what is old needless.
    """

    def __init__(
        self,
        in_flight: InFlight,
        *,
        threads: int,
        batch_size: int,
        shelf: Shelf | None = None,
        batch: int = 1,
        eager: bool = False,
    ) -> None:
        self._in_flight = in_flight
        self._threads = threads
        self._batch_size = batch_size
        self._batch = batch
        self._eager = eager
        self._room = Room(batch_size)
        self._lock = threading.Lock()
        self._takeable = threading.Condition(self._lock)
        self._fetchable = threading.Condition(self._lock)
        self._shelf: Shelf = shelf if shelf is not None else Lanes(Gatekeeper())
        self._handed_out = 0
        #: Entries for which a batch waits.
        self._lacking = 0
        self._released = 0
        self._taken_in = 0
        self._closed = False
        self._taking = 0
        self._last_take_s = time.monotonic()
        self._changes = 0

    def take(self, prefetch: int, timeout_s: float) -> Claimed | None:
        """The next entry, or None when none may run, or no slot is free, for `timeout_s`.

        Parameters:
          prefetch: How many deliveries may be handed out and not released.
        """
        taken = self.take_many(1, prefetch, timeout_s)
        return taken[0] if taken else None

    def take_many(
        self, most: int, prefetch: int, timeout_s: float, linger_s: float = 0.0
    ) -> list[Claimed]:
        """The next entries, at most `most`; empty when there is none for `timeout_s`.

        Parameters:
          linger_s: How long the first one may wait for others.
        """
        with self._lock:
            self._room.size(prefetch, self._threads)
            if self._is_paused():
                self._fetchable.notify_all()
            self._taking += 1
            try:
                taken = self._wait_for_some(most, time.monotonic() + timeout_s)
                if taken and linger_s > 0 and len(taken) < most and not _capped(taken):
                    self._linger(taken, most, time.monotonic() + linger_s)
            finally:
                self._taking -= 1
                self._last_take_s = time.monotonic()
            if self._worth_fetching():
                self._fetchable.notify_all()
            return taken

    def _wait_for_some(self, most: int, until: float) -> list[Claimed]:
        while True:
            if self._shelf.ready or self._shelf.next_look <= time.monotonic():
                taken = self._pop(most)
                if taken:
                    return taken
            now = time.monotonic()
            if now >= until:
                return []
            # Without a free slot the time to look at a guard is no reason to wake.
            wake_at = min(until, self._shelf.next_look) if self._free() > 0 else until
            self._takeable.wait(max(0.0, wake_at - now))

    def _linger(self, taken: list[Claimed], most: int, until: float) -> None:
        try:
            while len(taken) < most and not self._closed:
                more = self._pop(most - len(taken))
                taken += more
                left = until - time.monotonic()
                if left <= 0:
                    return
                if not more:
                    # What it waits for must be fetched, too.
                    self._lacking = most - len(taken)
                    self._fetchable.notify_all()
                    self._takeable.wait(left)
        finally:
            self._lacking = 0

    def _free(self) -> int:
        """How many more may be handed out."""
        return self._room.may_hand_out() * self._batch - self._handed_out

    def _pop(self, most: int) -> list[Claimed]:
        free = self._free()
        if free <= 0:
            return []
        taken = self._shelf.pop(min(most, free))
        self._handed_out += len(taken)
        return taken

    def ended(self, ends: Iterable[tuple[Claimed | None, bool]]) -> None:
        """Entries that were handed out were settled, or return."""
        count = 0
        with self._lock:
            for claimed, returns in ends:
                count += 1
                if claimed is not None:
                    self._shelf.ended(claimed, returns=returns)
            self._release(count)

    def _release(self, count: int) -> None:
        self._handed_out -= count
        self._released += count
        if self._shelf.ready or self._shelf.next_look < math.inf:
            self._takeable.notify(count)
        if self._worth_fetching():
            self._fetchable.notify_all()

    def put(self, claimed: Sequence[Claimed]) -> list[Claimed]:
        """Adds entries that were claimed; returns those that became needless by it."""
        self._in_flight.add([one.held for one in claimed])
        with self._lock:
            needless = self._shelf.put(claimed)
            self._taken_in += len(claimed)
            self._takeable.notify_all()
            return needless

    def put_back(self, claimed: Sequence[Claimed], hold_s: float = 0.0) -> list[Claimed]:
        """Takes back entries that were handed out and not run; returns those that are needless.

        Parameters:
          hold_s: How long they, and all that is alike, are to wait here, seconds.
        """
        with self._lock:
            self._handed_out -= len(claimed)
            needless = self._shelf.put_back(claimed, hold_s)
            self._takeable.notify_all()
            return needless

    def recheck(self) -> None:
        """The guards have changed: what waits for them may ask again."""
        with self._lock:
            self._changes += 1
            self._shelf.recheck()
            self._takeable.notify_all()
            self._fetchable.notify_all()

    def wait_for_change(self, before: int, timeout_s: float) -> None:
        """Waits until the guards have changed since `changes` was `before`, or `close`."""
        with self._lock:
            self._fetchable.wait_for(lambda: self._closed or self._changes != before, timeout_s)

    @property
    def changes(self) -> int:
        """How often the guards have changed."""
        return self._changes

    def wait_for_room(self, timeout_s: float | None = None) -> int:
        """Waits until a fetch is worth its while; returns for how many entries.

        0 when closed, or after `timeout_s`; `PAUSED` when the consumer is paused: what is here
        should be handed back.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            while not self._closed:
                if self._is_paused():
                    return PAUSED
                if self._worth_fetching():
                    return self._room_for()
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return 0
                # Only the time can tell a pause.
                pause = PAUSE_S if self._shelf.ready or self._shelf.waiting else None
                self._fetchable.wait(min((one for one in (left, pause) if one), default=None))
            return 0

    def _room_for(self) -> int:
        released, self._released = self._released, 0
        self._room.observe(released, time.monotonic())
        free = self._room.target() * self._batch - self._stock() - self._handed_out
        room = self._batch_size if self._eager else max(1, free)
        return min(room, MAX_WAITING)

    def has_room(self) -> bool:
        """Whether a fetch is worth its while now; False once closed."""
        with self._lock:
            return not self._closed and self._worth_fetching()

    def is_paused(self) -> bool:
        """Whether nobody has asked for entries lately: what is here should be handed back."""
        with self._lock:
            return self._is_paused()

    def is_empty(self) -> bool:
        """Whether all entries were taken."""
        return not self._shelf.ready and not self._shelf.waiting

    def is_clogged(self) -> bool:
        """Whether so much waits that nothing more is read."""
        return self._shelf.waiting >= MAX_WAITING

    def view(self) -> BufferView:
        """What is here now, for a health record."""
        with self._lock:
            return BufferView(
                self._shelf.ready + self._shelf.waiting,
                self._handed_out,
                not self._closed and self._worth_fetching(),
                self._is_paused(),
                self._taken_in,
                self._last_take_s,
                self._shelf.waiting,
                -(-self._handed_out // self._batch),
            )

    def wait_for_resume(self) -> None:
        """Waits until the consumer asks again, or `close`."""
        with self._lock:
            self._fetchable.wait_for(lambda: self._closed or not self._is_paused())

    def _worth_fetching(self) -> bool:
        if self._shelf.waiting >= MAX_WAITING:
            return False
        if self._eager:
            return True
        soon = self._shelf.soon
        if soon >= READ_AHEAD and soon < self._room.rate * READ_AHEAD_S:
            return False
        if self._batch == 1:
            return self._room.worth_fetching(self._stock(), self._handed_out)
        if self._lacking > self._shelf.ready:
            return True
        held = self._stock() + self._handed_out
        return held * 2 <= self._room.target() * self._batch

    def _stock(self) -> int:
        """How many here will keep the threads busy. What waits for its key's turn does not, where
        threads have nothing to do meanwhile: then other keys are looked for."""
        ready = self._shelf.ready
        idle = not ready and self._handed_out < self._threads
        return ready if idle else ready + self._shelf.soon

    def _is_paused(self) -> bool:
        return not self._taking and time.monotonic() - self._last_take_s > PAUSE_S

    def close(self) -> None:
        """Ends `wait_for_room`. What is in the buffer stays until it is taken or drained."""
        with self._lock:
            self._closed = True
            self._fetchable.notify_all()
            self._takeable.notify_all()

    def drain(self, *, unless: str | None = None) -> list[Claimed]:
        """Takes out everything, but for what was claimed under the name `unless`."""
        with self._lock:
            return self._shelf.drain(unless)

    # -- of an owner ---------------------------------------------------------------------------

    def own(
        self, source: Source, consumer: str, expected: Iterable[tuple[str, Collection[bytes]]]
    ) -> None:
        """This process owns a partition.

        Parameters:
          consumer: Its name.
          expected: By key, the entries that will come and are to run before what is behind them.
        """

        def begin(gates: Gates) -> None:
            gates.own(source, consumer)
            for key, ids in expected:
                gates.expect(source, key, ids)

        self._at_gates(begin)

    def disown(self, source: Source) -> list[Claimed]:
        """It does not any more; returns what waits."""
        return self._at_gates(lambda gates: gates.disown(source))

    def gone(self, source: Source, key: str, ids: Collection[bytes]) -> None:
        """These entries will not come."""
        self._at_gates(lambda gates: gates.gone(source, key, ids))

    def expected(self, source: Source) -> dict[str, list[bytes]]:
        """What will come, by key."""
        return self._at_gates(lambda gates: gates.expected(source))

    def _at_gates(self, action: Callable[[Gates], T]) -> T:
        with self._lock:
            assert isinstance(self._shelf, Gates)
            result = action(self._shelf)
            self._takeable.notify_all()
            return result


def _capped(taken: Sequence[Claimed]) -> bool:
    return any(one.cap for one in taken)
