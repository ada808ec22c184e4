"""The demo's pipeline: market data -> signal -> order -> fill -> position.

Four subscriptions, each with its own place in its log. What a handler returns or yields is
published together with the end of its event, or not at all. Every decision follows from the event
alone, so it does not matter which worker process gets which event, and a handler that runs again
does the same again.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from zlib import crc32

from ..broker import current_delivery
from ..events import (
    Direction,
    FillEvent,
    Liquidity,
    MarketDataEvent,
    OrderEvent,
    OrderType,
    Quote,
    Side,
    SignalEvent,
    TimeInForce,
    now_ns,
)
from ..workers import on

__all__ = ["VenueBusy", "fill_order", "find_signal", "keep_position", "place_order", "position"]

#: A side of the book that is this many times larger than the other one makes a signal.
PRESSURE = 1000
#: One order in so many is refused by the venue at the first attempt.
BUSY_EVERY = 25

#: Of this process alone: each handles a part of the fills.
_positions: defaultdict[str, Decimal] = defaultdict(Decimal)
_lock = threading.Lock()  # guards _positions


class VenueBusy(Exception):
    """The venue does not take the order now; trying again is right."""


@on(MarketDataEvent, name="demo.find_signal")
def find_signal(event: MarketDataEvent) -> SignalEvent | None:
    """Far more buyers than sellers at the best prices: go long. The other way round: go short."""
    quote = event.data
    if not isinstance(quote, Quote):
        return None
    if quote.bid_sz >= quote.ask_sz * PRESSURE:
        direction, price, size = Direction.LONG, quote.ask_px, quote.ask_sz
    elif quote.ask_sz >= quote.bid_sz * PRESSURE:
        direction, price, size = Direction.SHORT, quote.bid_px, quote.bid_sz
    else:
        return None
    if not size:
        return None
    return SignalEvent(
        ts_event=event.ts_event,
        key=event.key,
        source="demo",
        strategy="book pressure",
        direction=direction,
        reference_price=price,
        quantity=size,
    )


@on(SignalEvent, name="demo.place_order")
def place_order(signal: SignalEvent) -> OrderEvent:
    """One order a signal. Its id follows from the signal's: the same signal, the same order."""
    assert signal.quantity is not None
    return OrderEvent(
        ts_event=now_ns(),
        key=signal.key,
        source="demo",
        client_order_id=f"order-{signal.id}",
        side=Side.BUY if signal.direction is Direction.LONG else Side.SELL,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.IOC,
        quantity=signal.quantity,
        limit_price=signal.reference_price,
    )


@on(OrderEvent, name="demo.fill_order", min_backoff=100, max_backoff=1_000)
def fill_order(order: OrderEvent) -> Iterator[FillEvent]:
    """The simulated venue: fills an order in one part or two, and is busy now and then.

    Raises:
      VenueBusy: At the first attempt for some orders. The event is tried again 100 ms later.
    """
    dice = crc32(order.client_order_id.encode())
    if dice % BUSY_EVERY == 0 and _attempt() == 1:
        raise VenueBusy(f"order {order.client_order_id} is to be sent again")
    half = order.quantity / 2
    parts = [half, order.quantity - half] if dice % 2 else [order.quantity]
    assert order.limit_price is not None
    for number, part in enumerate(parts, 1):
        fill = FillEvent.of(
            order,
            exec_id=f"{order.client_order_id}/{number}",
            last_quantity=part,
            last_price=order.limit_price,
            ts_event=now_ns(),
            liquidity=Liquidity.TAKER,
            source="demo",
        )
        order = order.filled_by(fill)
        yield fill


@on(FillEvent, name="demo.keep_position")
def keep_position(fill: FillEvent) -> None:
    """Adds the fill up."""
    with _lock:
        _positions[fill.key] += fill.last_quantity if fill.side is Side.BUY else -fill.last_quantity


def position(key: str) -> Decimal:
    """What this process has seen bought less sold of one instrument."""
    with _lock:
        return _positions[key]


def _attempt() -> int:
    """1 when an event is handled for the first time, or when a handler is called by hand."""
    delivery = current_delivery.get()
    return 1 if delivery is None else delivery.attempt
