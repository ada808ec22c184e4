"""The local buffer of one queue: what was claimed and waits for Dramatiq's consumer.

Entries of a higher lane are taken first, those of one lane in the order in which they came. The
buffer sits between the intake's thread, which puts entries in while there is room, and the
consumer, which takes them out as slots become free. `_lock` guards everything in it; the consumer
waits on `_takeable`, the intake on `_fetchable`, so that neither wakes the other for nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from .in_flight import Held, InFlight
from .room import Room
from .sources import Source

__all__ = ["PAUSED", "Buffer", "BufferView", "Claimed"]

#: Seconds without a `take` after which the consumer counts as paused; it asks every second.
PAUSE_S = 2.0
#: What `wait_for_room` returns when the consumer is paused.
PAUSED = -1


class Claimed(NamedTuple):
    """An entry that this process holds."""

    source: Source
    consumer: str
    entry_id: bytes
    #: Field, value, ...
    fields: list[bytes]
    #: Retry state, where it was parked before.
    options: bytes | None
    claimed_ns: int
    #: Before entries of a higher lane: its own was passed over for long.
    aged: bool = False
    #: A message that had to be looked into already.
    decoded: dict[str, Any] | None = None

    @property
    def held(self) -> Held:
        """The entry, as `InFlight` knows it."""
        return (self.source.keys.entries, self.source.group, self.consumer, self.entry_id)


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


class Buffer:
    """Thread-safe.

    Parameters:
      in_flight: What this process holds; what is put in is added.
      threads: Worker threads of this process.
      batch_size: Entries that one fetch takes at most.
    """

    def __init__(self, in_flight: InFlight, *, threads: int, batch_size: int) -> None:
        self._in_flight = in_flight
        self._threads = threads
        self._room = Room(batch_size)
        self._lock = threading.Lock()
        self._takeable = threading.Condition(self._lock)
        self._fetchable = threading.Condition(self._lock)
        self._lanes: tuple[deque[Claimed], ...] = (deque(), deque(), deque())
        self._buffered = 0
        self._handed_out = 0
        self._released = 0
        self._taken_in = 0
        self._closed = False
        self._taking = 0
        self._last_take_s = time.monotonic()

    def take(self, prefetch: int, timeout_s: float) -> Claimed | None:
        """The next entry, or None when there is none, or no free slot, for `timeout_s`.

        Parameters:
          prefetch: How many entries may be handed out and not released.
        """
        with self._lock:
            self._room.size(prefetch, self._threads)
            if self._is_paused():
                self._fetchable.notify_all()
            self._taking += 1
            try:
                if not self._may_take() and not self._takeable.wait_for(self._may_take, timeout_s):
                    return None
            finally:
                self._taking -= 1
                self._last_take_s = time.monotonic()
            claimed = next(lane for lane in self._lanes if lane).popleft()
            self._buffered -= 1
            self._handed_out += 1
            if self._worth_fetching():
                self._fetchable.notify_all()
            return claimed

    def _may_take(self) -> bool:
        return self._buffered > 0 and self._handed_out < self._room.may_hand_out()

    def release(self) -> None:
        """An entry that was handed out needs its slot no more."""
        with self._lock:
            self._handed_out -= 1
            self._released += 1
            if self._buffered:
                self._takeable.notify()
            if self._worth_fetching():
                self._fetchable.notify_all()

    def put(self, claimed: Sequence[Claimed]) -> None:
        """Adds entries that were claimed."""
        self._in_flight.add([one.held for one in claimed])
        with self._lock:
            for one in claimed:
                self._lanes[0 if one.aged else one.source.lane].append(one)
            self._buffered += len(claimed)
            self._taken_in += len(claimed)
            self._takeable.notify_all()

    def wait_for_room(self) -> int:
        """Waits until a fetch is worth its while; returns for how many entries.

        0 when closed; `PAUSED` when the consumer is paused: what is here should be handed back.
        """
        with self._lock:
            while not self._closed:
                if self._is_paused():
                    return PAUSED
                if self._worth_fetching():
                    released, self._released = self._released, 0
                    self._room.observe(released, time.monotonic())
                    return max(1, self._room.target() - self._buffered - self._handed_out)
                # Only the time can tell a pause.
                self._fetchable.wait(PAUSE_S if self._buffered else None)
            return 0

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
        return self._buffered == 0

    def view(self) -> BufferView:
        """What is here now, for a health record."""
        with self._lock:
            return BufferView(
                self._buffered,
                self._handed_out,
                not self._closed and self._worth_fetching(),
                self._is_paused(),
                self._taken_in,
                self._last_take_s,
            )

    def wait_for_resume(self) -> None:
        """Waits until the consumer asks again, or `close`."""
        with self._lock:
            self._fetchable.wait_for(lambda: self._closed or not self._is_paused())

    def _worth_fetching(self) -> bool:
        return self._room.worth_fetching(self._buffered, self._handed_out)

    def _is_paused(self) -> bool:
        return not self._taking and time.monotonic() - self._last_take_s > PAUSE_S

    def close(self) -> None:
        """Ends `wait_for_room`. What is in the buffer stays until it is taken or drained."""
        with self._lock:
            self._closed = True
            self._fetchable.notify_all()

    def drain(self, *, unless: str | None = None) -> list[Claimed]:
        """Takes out everything, but for what was claimed under the name `unless`."""
        drained: list[Claimed] = []
        with self._lock:
            for lane in self._lanes:
                kept = [one for one in lane if one.consumer == unless]
                drained += [one for one in lane if one.consumer != unless]
                lane.clear()
                lane.extend(kept)
            self._buffered -= len(drained)
        return drained
