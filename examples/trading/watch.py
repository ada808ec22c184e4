"""Watches the feeds: what is missing, what has gone silent, what comes late.

The detectors know what *this process* has seen. So the watch runs in one worker process, whose
events come in the order of the log: `dramatiq trading.watch -p 1 -t 1`.
"""

from __future__ import annotations

from collections.abc import Iterator

from streamatiq import (
    GapDetector,
    LateDetector,
    Lateness,
    MarketDataEvent,
    SequenceStatus,
    StaleDetector,
    feed_of,
    on,
)

from .events import AlertKind, ClockTick, FeedAlert

__all__ = ["watch_clock", "watch_feed"]

#: Longest silence that is normal, ms, by kind of data.
SILENCE_MS = {"quote": 500, "trade": 5_000}

gaps = GapDetector()
silences = StaleDetector(lambda feed: SILENCE_MS[feed.rpartition(" ")[2]])
lateness = LateDetector(out_of_orderness_ms=100, allowed_lateness_ms=1_000)


# lead: ordered=True
@on(MarketDataEvent, name="trading.watch", start="earliest")
def watch_feed(event: MarketDataEvent) -> Iterator[FeedAlert]:
    """Looks at the number, the arrival and the time of each event."""

    def alert(kind: AlertKind, **what: int) -> FeedAlert:
        return FeedAlert(
            ts_event=event.ts_event, key=event.key, feed=feed_of(event), kind=kind, **what
        )

    numbers = gaps.seen(event)
    if numbers is not None:
        if numbers.missing:
            first, last = numbers.missing[0], numbers.missing[-1]
            yield alert(AlertKind.GAP, first_number=first, last_number=last)
        for filled in numbers.filled:
            yield alert(AlertKind.GAP_FILL, first_number=filled[0], last_number=filled[-1])
        if numbers.status is SequenceStatus.RESET:
            yield alert(AlertKind.RESET)
    silence = silences.seen(event)
    if silence is not None:
        yield alert(AlertKind.BACK, by_ms=silence.silent_ns // 1_000_000)
    late = lateness.seen(event)
    if late.lateness is not Lateness.ON_TIME and late.behind_ns is not None:
        yield alert(AlertKind.LATE, by_ms=late.behind_ns // 1_000_000)


@on(ClockTick, name="trading.clock", start="earliest")
def watch_clock(tick: ClockTick) -> Iterator[FeedAlert]:
    """Tells which feeds have been silent for too long, by the receiver's clock."""
    for silence in silences.stale(tick.ts_event):
        yield FeedAlert(
            ts_event=tick.ts_event,
            key=silence.key.rpartition(" ")[0],
            feed=silence.key,
            kind=AlertKind.STALE,
            by_ms=silence.silent_ns // 1_000_000,
        )
