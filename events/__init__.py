"""What happened: the models of events, their ids, their codec and their schema versions.

Pure: pydantic only, no input or output, no Redis.
"""

from __future__ import annotations

from .bars import Bar
from .book import BookAction, BookDelta, BookDeltas, missed_updates
from .cloudevents import from_cloudevent, to_cloudevent
from .cloudevents_http import from_cloudevent_http, to_cloudevent_http
from .codec import decode, decode_as, encode
from .decimals import Price, Quantity, Size
from .event import Event
from .feeds import feed_of
from .fills import FillEvent
from .gap_detector import GapDetector, GapReport, SequenceStatus
from .ids import UuidV7, emit_id, new_id
from .instruments import InstrumentEvent, instrument
from .late_detector import LateDetector, Lateness, LatenessReport
from .layout import EventType, Lane, Laned, Partitioned
from .market_data import MarketDataEvent, Quote, Trade
from .order_life import OrderStatus
from .orders import OrderEvent
from .record import Record
from .registry import event_class, registered_types
from .signals import Direction, SignalEvent
from .stale_detector import Silence, StaleDetector
from .terms import Liquidity, OrderType, Side, TimeInForce
from .times import Time, now_ns, to_ns
from .upcasting import upcast

__all__ = [
    "Bar",
    "BookAction",
    "BookDelta",
    "BookDeltas",
    "Direction",
    "Event",
    "EventType",
    "FillEvent",
    "GapDetector",
    "GapReport",
    "InstrumentEvent",
    "Lane",
    "Laned",
    "LateDetector",
    "Lateness",
    "LatenessReport",
    "Liquidity",
    "MarketDataEvent",
    "OrderEvent",
    "OrderStatus",
    "OrderType",
    "Partitioned",
    "Price",
    "Quantity",
    "Quote",
    "Record",
    "SequenceStatus",
    "Side",
    "SignalEvent",
    "Silence",
    "Size",
    "StaleDetector",
    "Time",
    "TimeInForce",
    "Trade",
    "UuidV7",
    "decode",
    "decode_as",
    "emit_id",
    "encode",
    "event_class",
    "feed_of",
    "from_cloudevent",
    "from_cloudevent_http",
    "instrument",
    "missed_updates",
    "new_id",
    "now_ns",
    "registered_types",
    "to_cloudevent",
    "to_cloudevent_http",
    "to_ns",
    "upcast",
]
