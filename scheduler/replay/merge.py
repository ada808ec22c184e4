"""All streams of a replay in one order: (time, type, partition or lane, entry id).

A k-way merge: one event of each stream is looked at, and pages are read as they are needed, or
ahead when there is time. Memory is bounded: pages are smaller where there are many streams, and so
is what is read ahead.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence

from ...errors import InvalidReplay
from .items import Order, Place, Replayed
from .ranges import StreamRange, entry_id
from .spec import ReplaySpec
from .streams import ReadPage, StreamPosition, StreamReader

__all__ = ["Merge", "page_size"]

#: Entries of one read, of one stream alone.
MOST_PAGE = 256
#: Entries that are kept ready for a burst, of all streams together, about.
MOST_READY = 8_192
#: Entries that are read ahead in one go: few, for what becomes due meanwhile waits.
AHEAD = 32
#: And of all streams together, about.
MOST_TOGETHER = 16_384


def page_size(streams: int) -> int:
    """Entries of one read where there are so many streams."""
    return max(8, min(MOST_PAGE, MOST_TOGETHER // max(1, streams)))


class Merge:
    """The events of a replay, in order. Not thread-safe.

    Parameters:
      ranges: Its streams.
      read: Reads entries.
      positions: How far each stream was read, by `StreamRange.name`.
      page: Entries of one read; default: `page_size`.
    """

    def __init__(
        self,
        spec: ReplaySpec,
        ranges: Sequence[StreamRange],
        read: ReadPage,
        *,
        positions: Mapping[str, StreamPosition] | None = None,
        page: int | None = None,
    ) -> None:
        self._spec = spec
        self._ranges = list(ranges)
        self._read = read
        self._page = page or page_size(len(ranges))
        self._ready = max(self._page, MOST_READY // max(1, len(ranges)) if page is None else 0)
        self._begin(positions or {}, None)

    def _begin(self, positions: Mapping[str, StreamPosition], from_ns: int | None) -> None:
        self._readers = [
            self._reader(one, positions.get(one.name, StreamPosition()), from_ns)
            for one in self._ranges
        ]
        #: The heads of readers, and which ones have none yet.
        self._heap: list[tuple[Order, int]] = []
        self._headless = {at for at, one in enumerate(self._readers) if not one.exhausted}

    def _reader(
        self, one: StreamRange, position: StreamPosition, from_ns: int | None
    ) -> StreamReader:
        return StreamReader(
            self._spec,
            one,
            self._read,
            page=self._page,
            ready=self._ready,
            position=position,
            from_ns=from_ns,
        )

    @property
    def must_load(self) -> bool:
        """Whether `peek` would read from the server."""
        return bool(self._headless)

    def load(self) -> None:
        """Reads what `peek` needs.

        Raises:
          EventDecodeError: An entry is no event; names it.
          BrokerError: The server cannot be read.
        """
        while self._headless:
            at = next(iter(self._headless))
            reader = self._readers[at]
            while reader.head is None and not reader.exhausted:
                reader.load()
            self._headless.discard(at)
            if reader.head is not None:
                heapq.heappush(self._heap, (reader.head.order, at))

    def prefetch(self) -> bool:
        """Reads a few entries ahead, in less than a millisecond; False if enough was read."""
        low = [reader for reader in self._readers if reader.runs_low]
        if low:
            min(low, key=lambda reader: reader.held).load(min(self._page, AHEAD))
        return bool(low)

    def peek(self) -> Replayed | None:
        """The next event; None at the end. Raises as `load`."""
        if self._headless:
            self.load()
        return self._readers[self._heap[0][1]].head if self._heap else None

    def pop(self) -> Replayed:
        """Takes the next event; there must be one."""
        at = self._heap[0][1]
        reader = self._readers[at]
        item = reader.pop()
        head = reader.head
        if head is not None:
            heapq.heapreplace(self._heap, (head.order, at))
            return item
        heapq.heappop(self._heap)
        if not reader.exhausted:
            self._headless.add(at)
        return item

    def seek_time(self, time_ns: int) -> None:
        """Goes on with the first event whose time is `time_ns` or later. Raises as `load`."""
        # By log time an entry's id is never older than the entry, so what has an older id has an
        # older time, and does not change the times of what comes.
        self._begin({}, time_ns)
        self._skip(lambda order: order.time_ns < time_ns)

    def seek_place(self, place: Place) -> None:
        """Goes on with the event at `place`. Raises as `load`, and

        Raises:
          InvalidReplay: It is none of the range. Nothing has changed.
        """
        order = self._order_of(place)
        self._begin({}, order.time_ns)
        self._skip(lambda other: other < order)

    def positions(self) -> dict[str, StreamPosition]:
        """Where to go on to get what comes next: what lies before it in each stream."""
        return {reader.stream.name: reader.before_head() for reader in self._readers}

    def _skip(self, is_before: Callable[[Order], bool]) -> None:
        while (item := self.peek()) is not None and is_before(item.order):
            self.pop()

    def _order_of(self, place: Place) -> Order:
        streams = [one for one in self._ranges if one.name == f"{place.type}/{place.part}"]
        if streams:
            reader = self._reader(streams[0], StreamPosition(), None)
            wanted = entry_id(place.entry_id)
            while reader.head is not None or not reader.exhausted:
                if reader.head is None:
                    reader.load()
                    continue
                order = reader.pop().order
                if order.entry == wanted:
                    return order
                if order.entry > wanted:
                    break
        raise InvalidReplay(
            f"{place} is no event of this replay's range: nothing has changed. Take a place that "
            "the replay shows, TYPE/PART/ENTRY-ID."
        )
