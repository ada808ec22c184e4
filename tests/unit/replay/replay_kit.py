"""Logs in memory, and a clock that is moved by hand, for tests of replays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamatiq import Event, Laned, Partitioned, encode
from streamatiq.scheduler.replay.engine import Engine
from streamatiq.scheduler.replay.items import Replayed
from streamatiq.scheduler.replay.merge import Merge
from streamatiq.scheduler.replay.pace import Pace
from streamatiq.scheduler.replay.progress import Progress
from streamatiq.scheduler.replay.ranges import StreamRange, entry_id
from streamatiq.scheduler.replay.spec import ReplaySpec
from streamatiq.scheduler.replay.streams import Entry

__all__ = ["Clock", "Memory", "Tick", "Tock", "engine_of"]

MS = 1_000_000


class Tick(Event, type="replay.tick", log=Partitioned(2)):
    """An event of a partitioned log."""

    n: int = 0


class Tock(Event, type="replay.tock", log=Laned()):
    """An event of a laned log."""

    n: int = 0


class Clock:
    """Stands still unless it is moved; ns."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns


class Memory:
    """Streams of Tick (two partitions) and Tock (three lanes), and how often they were read."""

    def __init__(self) -> None:
        self.streams: dict[str, list[Entry]] = {}
        self.most_entries = 0

    def add(
        self,
        cls: type[Event],
        part: str,
        ms: int,
        *,
        sequence: int = 0,
        ts_event: int = 0,
        **fields: Any,
    ) -> None:
        """Appends an event at the beginning of millisecond `ms`."""
        event = cls(ts_event=ts_event, ts_published=1, **fields)
        name = f"{cls.event_type}/{part}"
        entry = Entry(f"{ms}-{sequence}", encode(event), ms * 1000)
        self.streams.setdefault(name, []).append(entry)

    def ranges(self, spec: ReplaySpec) -> list[StreamRange]:
        """All streams, up to their ends."""
        found = []
        for cls, parts in ((Tick, ("0", "1")), (Tock, ("high", "normal", "low"))):
            if cls.event_type in spec.types:
                for number, part in enumerate(parts):
                    name = f"{cls.event_type}/{part}"
                    entries = self.streams.get(name)
                    last = entry_id(entries[-1].entry_id) if entries else (0, 0)
                    found.append(StreamRange(cls, part, number, name, last))
        return found

    def __call__(self, stream: StreamRange, first: str, last: str, count: int) -> Sequence[Entry]:
        excluded = first.startswith("(")
        low, high = entry_id(first.lstrip("(")), entry_id(last)
        found = [
            one
            for one in self.streams.get(stream.name, [])
            if low <= entry_id(one.entry_id) <= high
            and not (excluded and entry_id(one.entry_id) == low)
        ]
        return found[:count]

    def merge(self, spec: ReplaySpec, **options: Any) -> Merge:
        return Merge(spec, self.ranges(spec), self, **options)


def engine_of(
    memory: Memory, spec: ReplaySpec, clock: Clock, progress: Progress | None = None, page: int = 3
) -> Engine:
    """An engine on a log in memory."""
    progress = progress or Progress()
    merge = memory.merge(spec, positions=progress.positions, page=page)
    return Engine(merge, Pace(spec.speed, spec.max_rate), progress=progress, clock_ns=clock)


def places(items: Sequence[Replayed]) -> list[str]:
    return [str(one.place) for one in items]
