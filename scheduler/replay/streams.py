"""One stream of a replay, read page by page, with the times that the replay is sorted by.

A stream's own order is never changed, whatever clocks or event times do; its times never fall.
By log time, the time of an entry is the latest append up to it (a server's clock may be set
back), and the range goes by that. By event time, the range goes by `ts_event`, and the time of an
event is the latest `ts_event` among the stream's events of the replay up to it: one that is late
follows its predecessor at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .items import Order, Place, Replayed, stored_ts_event
from .ranges import StreamRange, entry_id
from .spec import ReplaySpec

__all__ = ["Entry", "ReadPage", "StreamPosition", "StreamReader"]


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a log as it is stored."""

    entry_id: str
    data: bytes
    appended_us: int


#: Reads entries of a stream: (stream, first id, last id, count) -> entries in their order. An id in
#: front of which stands `(` is left out.
ReadPage = Callable[[StreamRange, str, str, int], Sequence[Entry]]


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """How far a stream was read: the last entry, and the latest time up to it.

    Parameters:
      entry_id: Empty: nothing was read.
    """

    entry_id: str = ""
    time_ns: int = 0


class StreamReader:
    """Events of one stream that are in a replay's range. Not thread-safe.

    Parameters:
      page: Entries of one read.
      ready: Events that are read ahead, at most; one page more is held.
      position: Where to go on.
      from_ns: By log time: what was appended before need not be read.
    """

    def __init__(
        self,
        spec: ReplaySpec,
        stream: StreamRange,
        read: ReadPage,
        *,
        page: int,
        ready: int,
        position: StreamPosition,
        from_ns: int | None = None,
    ) -> None:
        self.stream = stream
        self._spec = spec
        self._read = read
        self._page = page
        self._ready = ready
        self._time_ns = position.time_ns
        self._keys = None if spec.keys is None else frozenset(spec.keys)
        self._waiting: deque[Replayed] = deque()
        ms = 0
        if spec.time_basis == "log":
            ms = max(spec.start_ns or 0, from_ns or 0) // 1_000_000
        self._next = f"({position.entry_id}" if position.entry_id else f"{ms}-0"
        self._last = f"{stream.last[0]}-{stream.last[1]}"
        self.exhausted = stream.last < (ms, 0) or stream.last <= entry_id(
            position.entry_id or "0-0"
        )

    @property
    def head(self) -> Replayed | None:
        """The next event, if one was read."""
        return self._waiting[0] if self._waiting else None

    @property
    def held(self) -> int:
        """How many events were read and not taken yet."""
        return len(self._waiting)

    @property
    def runs_low(self) -> bool:
        """Whether more should be read when there is time."""
        return not self.exhausted and len(self._waiting) < self._ready

    def before_head(self) -> StreamPosition:
        """From where a reader would go on with the head; at the end of the stream if there is
        none."""
        if not self._waiting:
            return StreamPosition(self._last)
        item = self._waiting[0]
        ms, sequence = item.order.entry
        before = f"{ms}-{sequence - 1}" if sequence else f"{ms - 1}-{(1 << 64) - 1}"
        return StreamPosition(before, item.time_ns)

    def pop(self) -> Replayed:
        """Takes the head."""
        return self._waiting.popleft()

    def load(self, count: int | None = None) -> None:
        """Reads one page.

        Parameters:
          count: Entries of it; default: a whole one.

        Raises:
          EventDecodeError: An entry is no event; names it.
          BrokerError: The server cannot be read.
        """
        count = count or self._page
        entries = self._read(self.stream, self._next, self._last, count)
        for entry in entries:
            self._take(entry)
        if len(entries) < count:
            self.exhausted = True
        else:
            self._next = f"({entries[-1].entry_id}"

    def _take(self, entry: Entry) -> None:
        spec = self._spec
        if self.exhausted:
            return
        if spec.time_basis == "log":
            time_ns = self._time_ns = max(self._time_ns, entry.appended_us * 1000)
            if time_ns < (spec.start_ns or 0):
                return
            if spec.end_ns is not None and time_ns >= spec.end_ns:
                self.exhausted = True
                return
        else:
            time_ns = self._ts_event(entry)
            if time_ns < (spec.start_ns or 0):
                return
            if spec.end_ns is not None and time_ns >= spec.end_ns:
                return
        item = self._item(entry, max(self._time_ns, time_ns))
        if self._keys is not None and item.event.key not in self._keys:
            return
        self._time_ns = item.time_ns
        self._waiting.append(item)

    def _ts_event(self, entry: Entry) -> int:
        stored = stored_ts_event(entry.data)
        return self._item(entry, 0).event.ts_event if stored is None else stored

    def _item(self, entry: Entry, time_ns: int) -> Replayed:
        stream = self.stream
        name = stream.cls.event_type
        order = Order(time_ns, name, stream.number, entry_id(entry.entry_id))
        place = Place(name, stream.part, entry.entry_id)
        return Replayed(stream.cls, time_ns, place, entry.data, order)
