"""One event of a replay, with its place in the log and in the replay's order."""

from __future__ import annotations

import re
from typing import NamedTuple

from ...errors import EventDecodeError
from ...events import Event, decode_as, encode

__all__ = ["Order", "Place", "Replayed", "parse_place", "stored_ts_event"]

#: The front of an event as `encode` writes it: id, event time and the time of publishing are there.
_FRONT = re.compile(
    rb'\{"type":"[^"\\]*","v":\d+,"id":"([0-9a-f-]{36})","ts_event":(\d+)'
    rb'(?:,"ts_published":(\d+))?(?=[,}])'
)


class Place(NamedTuple):
    """Where an event stands: the log's type, partition or lane, and entry id."""

    type: str
    part: str
    entry_id: str

    def __str__(self) -> str:
        return f"{self.type}/{self.part}/{self.entry_id}"


class Order(NamedTuple):
    """What a replay is sorted by: no two events have the same."""

    time_ns: int
    type: str
    #: Number of the partition, or of the lane from high to low.
    part: int
    entry: tuple[int, int]


class Replayed:
    """An event as it comes out of a replay. Not to be changed.

    Parameters:
      cls: Its class.
      time_ns: When it is due in recorded time, ns since 1970 UTC; see `streams`.
      place: Where it stands in the log.
      data: As it is stored, JSON.
      order: What the replay is sorted by.
    """

    # Not a frozen dataclass, whose constructor costs three times as much.
    __slots__ = ("_event", "cls", "data", "order", "place", "time_ns")

    def __init__(
        self, cls: type[Event], time_ns: int, place: Place, data: bytes, order: Order
    ) -> None:
        self.cls = cls
        self.time_ns = time_ns
        self.place = place
        self.data = data
        self.order = order
        self._event: Event | None = None

    @property
    def event(self) -> Event:
        """The event; decoded when it is first asked for.

        Raises:
          EventDecodeError: It cannot be; names the entry.
        """
        if self._event is None:
            try:
                self._event = decode_as(self.cls, self.data)
            except EventDecodeError as error:
                raise type(error)(
                    f"Entry {self.place} is no {self.cls.__name__}: {error}"
                ) from error
        return self._event

    def __repr__(self) -> str:
        return f"Replayed({self.place}, time_ns={self.time_ns})"

    @property
    def event_id(self) -> bytes:
        """Its id, 16 bytes; without decoding it where that can be."""
        front = _FRONT.match(self.data)
        return self.event.id.bytes if front is None else _id_bytes(front[1])

    def stamped(self, ts_published: int) -> tuple[bytes, bytes]:
        """Its id (16 bytes), and its data with another time of publishing."""
        front = _FRONT.match(self.data)
        if front is None or front[3] is None:
            event = self.event
            return event.id.bytes, encode(event.stamped(ts_published))
        first, last = front.span(3)
        return _id_bytes(front[1]), b"%b%d%b" % (
            self.data[:first],
            ts_published,
            self.data[last:],
        )


def stored_ts_event(data: bytes) -> int | None:
    """The event time, ns, off the front of an event's bytes; None: decode it."""
    front = _FRONT.match(data)
    return None if front is None else int(front[2])


def _id_bytes(text: bytes) -> bytes:
    # A third of what a UUID object costs.
    return bytes.fromhex(text.replace(b"-", b"").decode())


def parse_place(text: str) -> Place | None:
    """The place that `TYPE/PART/ENTRY` means; None if it is none."""
    found = re.fullmatch(r"([a-z][a-z0-9_.-]*)/(\w+)/(\d+-\d+)", text)
    return None if found is None else Place(*found.groups())
