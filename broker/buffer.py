"""The local buffer of one queue: what was claimed and waits for Dramatiq's consumer.

Entries of a higher lane are taken first, those of one lane in the order in which they came. The
buffer sits between the intake's thread, which puts entries in while there is room, and the
consumer, which takes them out as slots become free. `_changed` guards everything in it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from .in_flight import InFlight
from .room import Room
from .sources import Source

__all__ = ["Buffer", "Claimed"]


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
        self._changed = threading.Condition()
        self._lanes: tuple[deque[Claimed], ...] = (deque(), deque(), deque())
        self._buffered = 0
        self._handed_out = 0
        self._released = 0
        self._closed = False

    def take(self, prefetch: int, timeout_s: float) -> Claimed | None:
        """The next entry, or None when there is none, or no free slot, for `timeout_s`.

        Parameters:
          prefetch: How many entries may be handed out and not released.
        """
        with self._changed:
            self._room.size(prefetch, self._threads)
            if not self._may_take() and not self._changed.wait_for(self._may_take, timeout_s):
                return None
            claimed = next(lane for lane in self._lanes if lane).popleft()
            self._buffered -= 1
            self._handed_out += 1
            if self._room.worth_fetching(self._buffered, self._handed_out):
                self._changed.notify_all()
            return claimed

    def _may_take(self) -> bool:
        return self._buffered > 0 and self._handed_out < self._room.may_hand_out()

    def release(self) -> None:
        """An entry that was handed out needs its slot no more."""
        with self._changed:
            self._handed_out -= 1
            self._released += 1
            if self._buffered or self._room.worth_fetching(0, self._handed_out):
                self._changed.notify_all()

    def put(self, claimed: Sequence[Claimed]) -> None:
        """Adds entries that were claimed."""
        for one in claimed:
            self._in_flight.add(one.source, one.entry_id)
        with self._changed:
            for one in claimed:
                self._lanes[one.source.lane].append(one)
            self._buffered += len(claimed)
            self._changed.notify_all()

    def wait_for_room(self) -> int:
        """Waits until a fetch is worth its while; returns for how many entries, 0 when closed."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._room.worth_fetching(self._buffered, self._handed_out)
            )
            if self._closed:
                return 0
            released, self._released = self._released, 0
            self._room.observe(released, time.monotonic())
            return max(1, self._room.target() - self._buffered - self._handed_out)

    def close(self) -> None:
        """Ends `wait_for_room`. What is in the buffer stays until it is taken or drained."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def drain(self) -> list[Claimed]:
        """Takes out everything."""
        with self._changed:
            drained = [one for lane in self._lanes for one in lane]
            for lane in self._lanes:
                lane.clear()
            self._buffered = 0
            return drained
