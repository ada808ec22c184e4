"""The events of one publish call on their way: in which script calls they go, and what became of
them.

Each round trip takes at most one batch of each stream. If the server has forgotten the script,
calls are repeated one by one, and the order within a stream must survive that; and what a stream
had no room for goes before what comes after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import BacklogFull
from ..events import Event
from . import scripts
from .backpressure import RoomWait
from .calls import Call
from .keys import LogKeys
from .scripts import Appended
from .wording import counted

__all__ = ["Outgoing", "Place", "Receipt"]

#: Events in one script call: the server is busy for two or three milliseconds.
EVENTS_A_CALL = 500


class Receipt(NamedTuple):
    """Where a published event stands."""

    #: Event type, which names the log.
    log: str
    #: Partition number or lane.
    part: str
    #: Stream entry id; empty if it was shed.
    entry_id: str
    #: True if an event of this id stood there before: nothing was appended.
    duplicate: bool
    #: True if there was no room and it was dropped (and counted), as `event_bus.shed` asks for.
    shed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where events go. Compared by identity: one object a stream and `Logs`."""

    keys: LogKeys
    log: str
    part: str
    #: What finds no room is dropped.
    sheds: bool

    def receipt(self, appended: Appended) -> Receipt:
        """What the publisher is told."""
        return Receipt(self.log, self.part, appended.entry_id, appended.duplicate, appended.shed)


@dataclass(slots=True)
class _Batch:
    """Events of one script call, by their place in the caller's list."""

    at: list[int]
    events: list[tuple[bytes, bytes]]


class _Full(NamedTuple):
    """A stream without room."""

    place: Place
    subscription: str
    backlog: int


class Outgoing:
    """For one thread or task.

    Parameters:
      events: What is published, in order.
      prepare: Place, id (16 bytes) and data of an event.
      window_ms: How long ids are remembered, at least.
      limit: Most that a subscription may have to handle; 0 = no limit.
    """

    def __init__(
        self,
        events: Sequence[Event],
        prepare: Callable[[Event], tuple[Place, bytes, bytes]],
        *,
        window_ms: int,
        limit: int,
    ) -> None:
        self._events = events
        self._window_ms = window_ms
        self._limit = limit
        self._receipts: list[Receipt | None] = [None] * len(events)
        self._waiting: dict[Place, deque[_Batch]] = {}
        #: Whether the last round trip found room, or a place, for any event.
        self.moved = False
        #: A stream that had no room in the last round trip.
        self._full: _Full | None = None
        for at, event in enumerate(events):
            place, event_id, data = prepare(event)
            batches = self._waiting.setdefault(place, deque())
            if not batches or len(batches[-1].at) >= EVENTS_A_CALL:
                batches.append(_Batch([], []))
            batches[-1].at.append(at)
            batches[-1].events.append((event_id, data))

    @property
    def done(self) -> bool:
        """Whether every event has its receipt."""
        return not self._waiting

    @property
    def refused(self) -> bool:
        """Whether a stream had no room in the last round trip."""
        return self._full is not None

    def calls(self) -> list[Call[list[Appended]]]:
        """The next round trip."""
        return [
            scripts.publish(
                place.keys,
                self._window_ms,
                batches[0].events,
                limit=self._limit,
                shed=place.sheds,
            )
            for place, batches in self._waiting.items()
        ]

    def take(self, replies: Sequence[list[Appended]]) -> None:
        """What became of that round trip."""
        self._full = None
        self.moved = False
        for (place, batches), reply in zip(list(self._waiting.items()), replies, strict=True):
            batch = batches.popleft()
            rest = _Batch([], [])
            for at, event, one in zip(batch.at, batch.events, reply, strict=True):
                if one.full is None:
                    self._receipts[at] = place.receipt(one)
                else:
                    rest.at.append(at)
                    rest.events.append(event)
                    self._full = _Full(place, *one.full)
            self.moved = self.moved or len(rest.at) < len(batch.at)
            if rest.at:
                batches.appendleft(rest)
            elif not batches:
                del self._waiting[place]

    def receipts(self) -> list[Receipt]:
        """Of the events that have one, in their order."""
        return [receipt for receipt in self._receipts if receipt is not None]

    def error(self, wait: RoomWait) -> BacklogFull:
        """What to raise after a round trip that was `refused`."""
        assert self._full is not None
        place, subscription, backlog = self._full
        receipts = self.receipts()
        left = [e for e, r in zip(self._events, self._receipts, strict=True) if r is None]
        one = len(self._events) == 1
        fate = (
            "The event is not stored."
            if one
            else f"{len(receipts):,} of this call's {len(self._events):,} events are stored."
        )
        again = "publish it later" if one else "publish all again later, which is harmless"
        return BacklogFull(
            f"The log {place.log!r}, part {place.part}, is full: subscription {subscription!r} has "
            f"{counted(backlog, 'event')} to handle, and event_bus.max_queue_size is "
            f"{self._limit:,}. {fate} {wait.advice(again, 'publishers')} If nobody needs this "
            "subscription any more, give it up, without any worker of it running: "
            f"XGROUP DESTROY {place.keys.entries} {subscription}",
            log=place.log,
            part=place.part,
            subscription=subscription,
            backlog=backlog,
            limit=self._limit,
            accepted=len(receipts),
            left=left,
            receipts=receipts,
            waited_s=wait.waited_s,
        )
