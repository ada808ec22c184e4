"""Market data, orders and fills in one worker process: what `flood` measures.

An order's handler emits its fill. Messages below `FILLS` are orders; the fill of order n is message
n + FILLS; from `TICKS` on they are market data. `BENCH_VARIANT` is one of `VARIANTS`.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamatiq import (
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    OrderType,
    Side,
    on,
)
from streamatiq.settings import EventBusSettings, Settings

from ..ticks import Tick
from ..ticks import number_of as number_of_tick
from .base import FLOODS, QUEUE, Producer, Target, handling
from .events import EventProducer, number_of, open_broker

__all__ = ["FILLS", "TICKS", "VARIANTS", "connect"]

#: Numbers of the first fill, and of the first tick.
FILLS, TICKS = 20_000, 40_000

#: How market data is handled: behind orders and fills, like them, in batches, or the newest only.
PRIORITIES, EQUAL, BATCHES, CONFLATED = VARIANTS = (
    *("priorities", "equal priorities", "batches of 100"),
    "conflated",
)

#: Symbols of the market data.
_KEYS = 16

_VENUE_KEY = "XNAS:ORDER"

#: Backlog is limited, as by default; publishing waits for room.
_BOUNDED = Settings(event_bus=EventBusSettings(when_full="block"))


class MixedProducer(EventProducer):
    """Orders one by one, market data in bulk."""

    abilities = frozenset({FLOODS})

    def prepare(self) -> None:
        for cls in (MarketDataEvent, OrderEvent, FillEvent):
            self.broker.logs.check_layout(cls)

    def send(self, tick: Tick) -> None:
        order = OrderEvent(
            ts_event=tick["ts_event"],
            key=_VENUE_KEY,
            client_order_id=str(number_of_tick(tick)),
            side=Side.BUY,
            order_type=OrderType.LIMIT,
            quantity=tick["bid_size"],
            limit_price=tick["bid"],
        )
        self.broker.logs.publish(order)


_target = Target.from_env()
_variant = _target.variant or PRIORITIES
if _variant not in VARIANTS:
    raise ValueError(f"no variant {_variant!r}; use one of {', '.join(VARIANTS)}")
_handle = handling(_target)
_broker = open_broker(_target, _BOUNDED)


def connect() -> Producer:
    """Return the producer of this process."""
    return MixedProducer(_broker, keys=_KEYS)


def _one(event: MarketDataEvent) -> None:
    _handle(number_of(event))


def _several(events: Sequence[MarketDataEvent]) -> None:
    for event in events:
        _handle(number_of(event))


_declare = on(
    MarketDataEvent,
    name=QUEUE,
    start="earliest",
    broker=_broker,
    priority=0 if _variant == EQUAL else 100,
    batch=100 if _variant == BATCHES else None,
    conflate=_variant == CONFLATED,
)
_declare(_several if _variant == BATCHES else _one)


@on(OrderEvent, name="orders", start="earliest", broker=_broker)
def fill(order: OrderEvent) -> FillEvent:
    """Note the order, and fill it at once."""
    _handle(int(order.client_order_id))
    return FillEvent.of(
        order,
        exec_id=order.client_order_id,
        last_quantity=order.quantity,
        last_price=order.limit_price or 1,
        ts_event=order.ts_event,
    )


@on(FillEvent, name="fills", start="earliest", broker=_broker)
def filled(event: FillEvent) -> None:
    """Note the fill."""
    _handle(FILLS + int(event.exec_id))
