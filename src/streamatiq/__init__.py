"""Streamatiq: typed events in durable logs on Redis Streams, handled by Dramatiq actors.

Import from here only; what lies in the packages below may move.
"""

from __future__ import annotations

from importlib.metadata import version as _version

from . import errors
from .broker import (
    AuditLevel,
    DeadLetterEntry,
    EmbeddedServer,
    Logs,
    Receipt,
    RedisStreamsBroker,
)
from .errors import StreamatiqError
from .events import (
    Direction,
    Event,
    EventType,
    FillEvent,
    Lane,
    Laned,
    Liquidity,
    MarketDataEvent,
    OrderEvent,
    OrderStatus,
    OrderType,
    Partitioned,
    Quote,
    Side,
    SignalEvent,
    TimeInForce,
    Trade,
    decode,
    encode,
    instrument,
    now_ns,
)
from .settings import Settings
from .workers import apublish, apublish_many, default_broker, emit, on, publish, publish_many

__version__ = _version("streamatiq")

__all__ = [
    "AuditLevel",
    "DeadLetterEntry",
    "Direction",
    "EmbeddedServer",
    "Event",
    "EventType",
    "FillEvent",
    "Lane",
    "Laned",
    "Liquidity",
    "Logs",
    "MarketDataEvent",
    "OrderEvent",
    "OrderStatus",
    "OrderType",
    "Partitioned",
    "Quote",
    "Receipt",
    "RedisStreamsBroker",
    "Settings",
    "Side",
    "SignalEvent",
    "StreamatiqError",
    "TimeInForce",
    "Trade",
    "apublish",
    "apublish_many",
    "decode",
    "default_broker",
    "emit",
    "encode",
    "errors",
    "instrument",
    "now_ns",
    "on",
    "publish",
    "publish_many",
]
