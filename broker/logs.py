"""Logs: publishing events, and reading them again.

Publishing validates and encodes an event once and appends it with one script call, which drops a
second event of the same id within the window. All calls may be repeated after a lost reply, and
are. Events of one `publish_many` keep their order within each stream.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import methodcaller
from typing import NamedTuple, TypeVar

from ..errors import InvalidEvent, LogMismatch
from ..events import Event, Laned, Partitioned, encode
from . import scripts
from .async_links import AsyncLink, AsyncLinks
from .calls import Call
from .connections import Link, LinkPool
from .faults import translated
from .keys import Keys, LogKeys
from .parts import parts
from .reading import LogEntry, read_ids, read_times
from .scripts import Appended

__all__ = ["Logs", "Receipt"]

E = TypeVar("E", bound=Event)

Calls = Sequence[Call[list[Appended]]]

#: Events in one script call: the server is busy for two or three milliseconds.
EVENTS_A_CALL = 500


class Receipt(NamedTuple):
    """Where a published event stands."""

    #: Event type, which names the log.
    log: str
    #: Partition number or lane.
    part: str
    #: Stream entry id.
    entry_id: str
    #: True if an event of this id stood there before: nothing was appended.
    duplicate: bool


@dataclass(slots=True)
class _Batch:
    """Events of one call, by their place in the caller's list."""

    log: LogKeys
    log_name: str
    part: str
    places: list[int]
    events: list[tuple[bytes, bytes]]


class Logs:
    """Publishes to the logs of one namespace. Thread-safe; starts afresh after a fork.

    Parameters:
      keys: The namespace.
      links: Connections, and how often a call is repeated.
      window_ms: How long ids are remembered, at least.
      clock_ns: Wall clock, ns.
    """

    def __init__(
        self,
        keys: Keys,
        links: LinkPool,
        *,
        window_ms: int,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._keys = keys
        self._links = links
        self._async_links = AsyncLinks(links.endpoint, links.retry)
        self._window_ms = window_ms
        self._clock_ns = clock_ns
        #: Types whose layout was compared with the server's. Adding to a set is atomic.
        self._checked: set[str] = set()
        self._streams: dict[tuple[str, str], LogKeys] = {}

    # -- publish -------------------------------------------------------------------------------

    def publish(self, event: Event) -> Receipt:
        """Appends one event.

        Returns:
          Its place; the first one's place if its id was published before, within the window.

        Raises:
          InvalidEvent: It is not an event.
          LogMismatch: Its log exists with another layout.
          BrokerConnectionError: The server cannot be reached. Publishing the same event again is
            harmless, even if this call was done and only its reply lost.
          BrokerError: The server refused it (OutOfMemory, ReadOnlyServer, ...). Not stored.
        """
        return self.publish_many((event,))[0]

    def publish_many(self, events: Sequence[Event]) -> list[Receipt]:
        """Appends events in few round trips; the receipts are in the order of `events`.

        Not atomic: after an error some may be stored. Publishing all again is harmless.

        Raises:
          As `publish`.
        """
        batches = self._batches(events)
        for cls in self._unchecked(events):
            self.check_layout(cls)
        receipts: list[Receipt | None] = [None] * len(events)
        for trip in _trips(batches):
            calls = [self._call(batch) for batch in trip]
            for batch, appended in zip(trip, self._links.call(_run_many(calls)), strict=True):
                _fill(receipts, batch, appended)
        return [receipt for receipt in receipts if receipt is not None]

    async def apublish(self, event: Event) -> Receipt:
        """`publish` for a coroutine."""
        return (await self.apublish_many((event,)))[0]

    async def apublish_many(self, events: Sequence[Event]) -> list[Receipt]:
        """`publish_many` for a coroutine; its connections belong to the running event loop."""
        batches = self._batches(events)
        for cls in self._unchecked(events):
            call = self._layout_call(cls)
            self._compare_layout(cls, await self._async_links.call(methodcaller("run", call)))
        receipts: list[Receipt | None] = [None] * len(events)
        for trip in _trips(batches):
            calls = [self._call(batch) for batch in trip]
            all_appended = await self._async_links.call(_arun_many(calls))
            for batch, appended in zip(trip, all_appended, strict=True):
                _fill(receipts, batch, appended)
        return [receipt for receipt in receipts if receipt is not None]

    async def aclose(self) -> None:
        """Closes the running event loop's connections."""
        await self._async_links.close()

    def prepared(self, event: Event) -> tuple[LogKeys, bytes, bytes]:
        """An event ready for the wire: its stream, id (16 bytes) and data. Stamps it."""
        if not isinstance(event, Event):
            raise InvalidEvent(
                f"Cannot publish {event!r}: it is a {type(event).__name__}, not an Event. "
                "Derive a class from streamatiq.Event and publish an object of it."
            )
        stream = self.stream(type(event), self.part_of(event))
        return stream, event.id.bytes, encode(event.stamped(self._clock_ns()))

    # -- read ----------------------------------------------------------------------------------

    def read(
        self,
        cls: type[E],
        *,
        first: str = "-",
        last: str = "+",
        start: datetime | None = None,
        end: datetime | None = None,
        part: str | None = None,
        backwards: bool = False,
    ) -> Iterator[LogEntry[E]]:
        """Reads the log of `cls`, page by page: by entry id (`first` to `last`, both included) or
        by time of appending (`start` included, `end` excluded).

        Parts follow one another; entries keep their order within a part.

        Parameters:
          part: One partition or lane; None reads all.
          backwards: Newest first.

        Raises:
          ValueError: A time has no zone, both ids and times are given, or there is no such part.
          EventDecodeError: An entry is no event of `cls`; names it.
          BrokerError: The server cannot be read.
        """
        by_time = start is not None or end is not None
        if by_time and (first, last) != ("-", "+"):
            raise ValueError("Read by entry ids or by times, not both.")
        if part is not None and part not in parts(cls.log):
            raise ValueError(
                f"The log of {cls.event_type!r} has no part {part!r}; it has "
                f"{', '.join(parts(cls.log))}."
            )
        with self._links.endpoint.client() as client, translated(self._links.endpoint.shown):
            for name in [part] if part is not None else parts(cls.log):
                key = self.stream(cls, name).entries
                if by_time:
                    yield from read_times(
                        client, cls, key, name, start=start, end=end, backwards=backwards
                    )
                else:
                    yield from read_ids(
                        client, cls, key, name, first=first, last=last, backwards=backwards
                    )

    # -- layout --------------------------------------------------------------------------------

    def stream(self, cls: type[Event], part: str) -> LogKeys:
        """The keys of one stream of the log of `cls`."""
        at = (cls.event_type, part)
        keys = self._streams.get(at)
        if keys is None:
            keys = self._streams[at] = self._keys.log(*at)
        return keys

    @staticmethod
    def part_of(event: Event) -> str:
        """The partition (by a stable hash of the key) or lane that an event belongs to."""
        log = event.log
        if isinstance(log, Laned):
            return event.priority.value
        if log.partitions == 1:
            return "0"
        return str(zlib.crc32(event.key.encode()) % log.partitions)

    def check_layout(self, cls: type[Event]) -> None:
        """Creates the log of `cls`, or compares its layout with what `cls` declares. Once.

        Raises:
          LogMismatch: They differ.
        """
        if cls.event_type not in self._checked:
            reply = self._links.call(lambda link: link.run(self._layout_call(cls)))
            self._compare_layout(cls, reply)

    def _unchecked(self, events: Sequence[Event]) -> set[type[Event]]:
        return {type(event) for event in events if event.event_type not in self._checked}

    def _layout_call(self, cls: type[Event]) -> Call[str]:
        return scripts.layout(self._keys.layout(cls.event_type), _layout(cls.log))

    def _compare_layout(self, cls: type[Event], exists: str) -> None:
        declared = _layout(cls.log)
        if exists != declared:
            raise LogMismatch(
                f"The log of {cls.event_type!r} exists as {exists}, but {cls.__name__} declares "
                f"{declared}. A log's layout is fixed when it is created: declare {exists}, or "
                "give the new layout another type name or namespace."
            )
        self._checked.add(cls.event_type)

    # -- wire ----------------------------------------------------------------------------------

    def _batches(self, events: Sequence[Event]) -> list[_Batch]:
        open_batches: dict[LogKeys, _Batch] = {}
        batches: list[_Batch] = []
        for place, event in enumerate(events):
            stream, event_id, data = self.prepared(event)
            batch = open_batches.get(stream)
            if batch is None or len(batch.places) >= EVENTS_A_CALL:
                batch = _Batch(stream, event.event_type, self.part_of(event), [], [])
                open_batches[stream] = batch
                batches.append(batch)
            batch.places.append(place)
            batch.events.append((event_id, data))
        return batches

    def _call(self, batch: _Batch) -> Call[list[Appended]]:
        return scripts.publish(batch.log, self._window_ms, batch.events)


def _layout(log: Partitioned | Laned) -> str:
    return "laned" if isinstance(log, Laned) else f"partitioned:{log.partitions}"


def _run_many(calls: Calls) -> Callable[[Link], list[list[Appended]]]:
    return lambda link: link.run_many(calls)


def _arun_many(calls: Calls) -> Callable[[AsyncLink], Awaitable[list[list[Appended]]]]:
    return lambda link: link.run_many(calls)


def _trips(batches: list[_Batch]) -> Iterator[list[_Batch]]:
    """Batches that may go in one round trip: of different streams. If the server has forgotten the
    script, calls are repeated one by one, and the order within a stream must survive that."""
    left = batches
    while left:
        trip: dict[LogKeys, _Batch] = {}
        rest: list[_Batch] = []
        for batch in left:
            if trip.setdefault(batch.log, batch) is not batch:
                rest.append(batch)
        yield list(trip.values())
        left = rest


def _fill(receipts: list[Receipt | None], batch: _Batch, appended: list[Appended]) -> None:
    for place, one in zip(batch.places, appended, strict=True):
        receipts[place] = Receipt(batch.log_name, batch.part, one.entry_id, one.duplicate)
