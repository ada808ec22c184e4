"""The pipeline's subscriptions, so that the test can ask after them without importing handlers."""

from __future__ import annotations

from collections.abc import Mapping

from streamatiq import Event, FillEvent, MarketDataEvent, OrderEvent, SignalEvent

__all__ = [
    "FIND_SIGNAL",
    "KEEP_POSITION",
    "PLACE_ORDER",
    "SUBSCRIPTIONS",
    "VENUE",
    "WATCH",
]

FIND_SIGNAL = "e2e.find_signal"
PLACE_ORDER = "e2e.place_order"
VENUE = "e2e.venue"
KEEP_POSITION = "e2e.keep_position"
#: The second subscription of two logs at once.
WATCH = "e2e.watch"

#: Which logs each of them reads; upstream first.
SUBSCRIPTIONS: Mapping[str, tuple[type[Event], ...]] = {
    FIND_SIGNAL: (MarketDataEvent,),
    PLACE_ORDER: (SignalEvent,),
    VENUE: (OrderEvent,),
    KEEP_POSITION: (FillEvent,),
    WATCH: (OrderEvent, FillEvent),
}
