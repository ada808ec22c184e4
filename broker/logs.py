"""Logs: publishing events, and reading them again.

Publishing validates and encodes an event once and appends it with one script call, which drops a
second event of the same id within the window, and refuses what there is no room for. All calls may
be repeated after a lost reply, and are. Events of one `publish_many` keep their order within each
stream.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from operator import methodcaller
from typing import TypeVar

from ..errors import ConfigurationError, InvalidEvent, LogMismatch
from ..events import Event, FillEvent, Laned, OrderEvent, Partitioned, encode
from . import scripts
from .async_links import AsyncLink, AsyncLinks
from .backpressure import Backpressure, unlimited
from .calls import Call
from .carrying import Carrier
from .connections import Link, LinkPool
from .faults import translated
from .keys import Keys, LogKeys
from .outgoing import Outgoing, Place, Receipt
from .parts import parts
from .reading import LogEntry, read_ids, read_times
from .scripts import Appended

__all__ = ["Logs", "Receipt"]

E = TypeVar("E", bound=Event)

Calls = Sequence[Call[list[Appended]]]


class Logs:
    """Publishes to the logs of one namespace. Thread-safe; starts afresh after a fork.

    Parameters:
      keys: The namespace.
      links: Connections, and how often a call is repeated.
      window_ms: How long ids are remembered, at least.
      pressure: How much a subscription may have to handle, and what is done then.
      clock_ns: Wall clock, ns.
    """

    def __init__(
        self,
        keys: Keys,
        links: LinkPool,
        *,
        window_ms: int,
        pressure: Backpressure = unlimited,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._keys = keys
        self._links = links
        self._async_links = AsyncLinks(links.endpoint, links.retry)
        self._window_ms = window_ms
        self._pressure = pressure
        self._clock_ns = clock_ns
        #: Asked by every publish and emit, if there is one.
        self.carrier: Carrier | None = None
        #: Types whose layout was compared with the server's. Adding to a set is atomic.
        self._checked: set[str] = set()
        self._places: dict[tuple[str, str], Place] = {}

    @property
    def links(self) -> LinkPool:
        """Connections for any thread of this process."""
        return self._links

    @property
    def server(self) -> str:
        """The server's URL as it may be shown."""
        return self._links.endpoint.shown

    # -- publish -------------------------------------------------------------------------------

    def publish(self, event: Event) -> Receipt:
        """Appends one event.

        Returns:
          Its place; the first one's place if its id was published before, within the window.

        Raises:
          InvalidEvent: It is not an event.
          LogMismatch: Its log exists with another layout.
          BacklogFull: A subscription has as much to handle as it may have (with `when_full: block`:
            still, after the wait). Not stored.
          BrokerConnectionError: The server cannot be reached. Publishing the same event again is
            harmless, even if this call was done and only its reply lost.
          BrokerError: The server refused it (OutOfMemory, ReadOnlyServer, ...). Not stored.
        """
        if self.carrier is not None:
            with self.carrier.publishing(self, (event,)) as (carried,):
                return self._publish(carried)
        return self._publish(event)

    def _publish(self, event: Event) -> Receipt:
        place, event_id, data = self._prepared(event)
        self.check_layout(type(event))
        call = scripts.publish(
            place.keys,
            self._window_ms,
            ((event_id, data),),
            limit=self._pressure.limit,
            shed=place.sheds,
        )
        (appended,) = self._links.call(lambda link: link.run(call))
        if appended.full is None:
            return place.receipt(appended)
        return self._publish_many((event,))[0]

    def publish_many(self, events: Sequence[Event]) -> list[Receipt]:
        """Appends events in few round trips; the receipts are in the order of `events`.

        Not atomic: after an error some may be stored. Publishing all again is harmless. Where there
        is room for some of a stream's events only, the first ones are stored; those that are known
        already need no room.

        Raises:
          As `publish`. BacklogFull says which events are stored, and which are left.
        """
        if self.carrier is not None:
            with self.carrier.publishing(self, events) as carried:
                return self._publish_many(carried)
        return self._publish_many(events)

    def _publish_many(self, events: Sequence[Event]) -> list[Receipt]:
        outgoing = self._outgoing(events)
        for cls in self._unchecked(events):
            self.check_layout(cls)
        wait = self._pressure.begin()
        while not outgoing.done:
            outgoing.take(self._links.call(_run_many(outgoing.calls())))
            if outgoing.refused and not wait.pause(outgoing.moved):
                raise outgoing.error(wait)
        return outgoing.receipts()

    async def apublish(self, event: Event) -> Receipt:
        """`publish` for a coroutine."""
        if self.carrier is not None:
            with self.carrier.publishing(self, (event,)) as carried:
                return (await self._apublish_many(carried))[0]
        return (await self._apublish_many((event,)))[0]

    async def apublish_many(self, events: Sequence[Event]) -> list[Receipt]:
        """`publish_many` for a coroutine; its connections belong to the running event loop."""
        if self.carrier is not None:
            with self.carrier.publishing(self, events) as carried:
                return await self._apublish_many(carried)
        return await self._apublish_many(events)

    async def _apublish_many(self, events: Sequence[Event]) -> list[Receipt]:
        outgoing = self._outgoing(events)
        for cls in self._unchecked(events):
            call = self._layout_call(cls)
            self._compare_layout(cls, await self._async_links.call(methodcaller("run", call)))
        wait = self._pressure.begin()
        while not outgoing.done:
            outgoing.take(await self._async_links.call(_arun_many(outgoing.calls())))
            if outgoing.refused and not await wait.apause(outgoing.moved):
                raise outgoing.error(wait)
        return outgoing.receipts()

    async def aclose(self) -> None:
        """Closes the running event loop's connections."""
        await self._async_links.close()

    def prepared(self, event: Event) -> tuple[LogKeys, bytes, bytes]:
        """An event ready for the wire: its stream, id (16 bytes) and data. Stamps it."""
        place, event_id, data = self._prepared(event)
        return place.keys, event_id, data

    def _prepared(self, event: Event) -> tuple[Place, bytes, bytes]:
        if not isinstance(event, Event):
            raise InvalidEvent(
                f"Cannot publish {event!r}: it is a {type(event).__name__}, not an Event. "
                "Derive a class from streamatiq.Event and publish an object of it."
            )
        place = self._place(type(event), self.part_of(event))
        return place, event.id.bytes, encode(event.stamped(self._clock_ns()))

    def _outgoing(self, events: Sequence[Event]) -> Outgoing:
        return Outgoing(
            events, self._prepared, window_ms=self._window_ms, limit=self._pressure.limit
        )

    def shed_count(self, cls: type[Event]) -> int:
        """How many events of `cls` were dropped for want of room, ever. A call whose reply was lost
        may have counted some twice."""
        keys = [self.stream(cls, part).shed for part in parts(cls.log)]
        # One by one: they lie in different slots of a cluster.
        return sum(int(self._links.call(methodcaller("send", "GET", key)) or 0) for key in keys)

    def elsewhere(self, keys: Keys) -> Logs:
        """The logs of another namespace on the same server, with no limits."""
        return Logs(keys, self._links, window_ms=self._window_ms, clock_ns=self._clock_ns)

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
        return self._place(cls, part).keys

    def _place(self, cls: type[Event], part: str) -> Place:
        at = (cls.event_type, part)
        place = self._places.get(at)
        if place is None:
            sheds = cls.event_type in self._pressure.shed
            if sheds and issubclass(cls, OrderEvent | FillEvent):
                raise ConfigurationError(
                    f"event_bus.shed names {cls.event_type!r}, but {cls.__name__} is an order or a "
                    "fill, and these are never thrown away. Remove it from the setting."
                )
            place = self._places.setdefault(at, Place(self._keys.log(*at), *at, sheds))
        return place

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


def _layout(log: Partitioned | Laned) -> str:
    return "laned" if isinstance(log, Laned) else f"partitioned:{log.partitions}"


def _run_many(calls: Calls) -> Callable[[Link], list[list[Appended]]]:
    return lambda link: link.run_many(calls)


def _arun_many(calls: Calls) -> Callable[[AsyncLink], Awaitable[list[list[Appended]]]]:
    return lambda link: link.run_many(calls)
