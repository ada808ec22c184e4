"""Watches the feeds: what is missing, what has gone silent, what comes late.

The detectors know what *this process* has seen. So the watch runs in one worker process, whose
events come in the order of the log: `dramatiq trading.watch -p 1 -t 1`.

Time is the receiver's, as it stands in the events. Those of the feeds that go on tell that another
one is silent: by the order of the log, so that a backlog of ours is no silence of theirs. When all
of them stop, only a clock can tell; it does so with more patience, since its ticks come by another
log, and may come before older events.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamatiq import (
    GapDetector,
    LateDetector,
    Lateness,
    MarketDataEvent,
    SequenceStatus,
    Silence,
    StaleDetector,
    feed_of,
    on,
)

from .events import AlertKind, ClockTick, FeedAlert

__all__ = ["watch_clock", "watch_feed"]

#: Longest silence that is normal, ms, by kind of data; and of everything together.
SILENCE_MS = {"quote": 500, "trade": 5_000}
ALL, ALL_SILENT_MS = "all feeds", 5_000

gaps = GapDetector()
silences = StaleDetector(lambda feed: SILENCE_MS[feed.rpartition(" ")[2]])
all_silent = StaleDetector(ALL_SILENT_MS)
lateness = LateDetector(out_of_orderness_ms=100, allowed_lateness_ms=1_000)


@on(MarketDataEvent, name="trading.watch", start="earliest")
def watch_feed(event: MarketDataEvent) -> Iterator[FeedAlert]:
    """Looks at the number, the arrival and the time of each event."""

    def alert(kind: AlertKind, **what: int) -> FeedAlert:
        return _alert(kind, feed_of(event), event.ts_event, **what)

    numbers = gaps.seen(event)
    if numbers is not None:
        if numbers.missing:
            first, last = numbers.missing[0], numbers.missing[-1]
            yield alert(AlertKind.GAP, first_number=first, last_number=last)
        for filled in numbers.filled:
            yield alert(AlertKind.GAP_FILL, first_number=filled[0], last_number=filled[-1])
        if numbers.status is SequenceStatus.RESET:
            yield alert(AlertKind.RESET)

    late = lateness.seen(event)
    if late.lateness is not Lateness.ON_TIME and late.behind_ns is not None:
        yield alert(AlertKind.LATE, by_ms=late.behind_ns // 1_000_000)

    for silence in silences.stale(event.ts_recv):
        yield _alert_of(AlertKind.STALE, silence, event.ts_event)
    for ended in (silences.seen(event), all_silent.seen_key(ALL, event.ts_recv)):
        if ended is not None:
            yield _alert_of(AlertKind.BACK, ended, event.ts_event)


@on(ClockTick, name="trading.clock", start="earliest")
def watch_clock(tick: ClockTick) -> Iterator[FeedAlert]:
    """Tells when there is nothing at all."""
    for silence in all_silent.stale(tick.ts_event):
        yield _alert_of(AlertKind.STALE, silence, tick.ts_event)


def _alert_of(kind: AlertKind, silence: Silence, ts_event: int) -> FeedAlert:
    return _alert(kind, silence.key, ts_event, by_ms=silence.silent_ns // 1_000_000)


def _alert(kind: AlertKind, feed: str, ts_event: int, **what: int) -> FeedAlert:
    return FeedAlert(ts_event=ts_event, key=feed.partition(" ")[0], feed=feed, kind=kind, **what)
