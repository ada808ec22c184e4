"""The two event types that this system adds to the built-in ones."""

from __future__ import annotations

from enum import StrEnum

from streamatiq import Event, Partitioned

__all__ = ["AlertKind", "ClockTick", "FeedAlert"]


class AlertKind(StrEnum):
    """What is wrong with a feed, or right again."""

    GAP = "gap"
    GAP_FILL = "gap_fill"
    RESET = "reset"
    STALE = "stale"
    BACK = "back"
    LATE = "late"


class FeedAlert(Event, type="trading.feed_alert", version=1, log=Partitioned(1)):
    """Something is wrong with a feed, or right again; `key` is its instrument."""

    kind: AlertKind
    #: Name of the feed, as `feed_of` gives it.
    feed: str
    #: The numbers in question, both inclusive; of `gap` and `gap_fill`.
    first_number: int | None = None
    last_number: int | None = None
    #: How long it was silent, or how late the event is, ms.
    by_ms: int | None = None


class ClockTick(Event, type="trading.clock_tick", version=1, log=Partitioned(1)):
    """The receiver's clock, some times a second. Silence makes no event, so time has to."""
