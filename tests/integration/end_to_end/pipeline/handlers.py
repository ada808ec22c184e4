"""The handlers: market data -> signal -> order -> simulated venue -> fills -> position.

Every decision follows from the event alone, so it does not matter which process gets which event.
The first thing that each handler does is to note the arrival.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from streamatiq import (
    Event,
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    OrderStatus,
    Quote,
    SignalEvent,
    now_ns,
    on,
)
from streamatiq.events import Direction, OrderType, Side, TimeInForce

from .ledgers import LEDGERS, POSITIONS, VENUE_BOOK, Arrivals, Book
from .rule import executions, pressure
from .subscriptions import FIND_SIGNAL, KEEP_POSITION, PLACE_ORDER, SUBSCRIPTIONS, VENUE, WATCH

_folder = Path(os.environ[LEDGERS])
_arrivals = Arrivals(_folder, SUBSCRIPTIONS)
_venue_book = Book(_folder / VENUE_BOOK)
_positions = Book(_folder / POSITIONS)


@on(MarketDataEvent, name=FIND_SIGNAL)
def find_signal(event: MarketDataEvent) -> SignalEvent | None:
    """Far more on one side of the book than on the other: a signal."""
    _arrivals.note(FIND_SIGNAL, event.id)
    quote = event.data
    if not isinstance(quote, Quote) or quote.update_id is None:
        return None
    towards = pressure(quote.bid_sz, quote.ask_sz, quote.update_id)
    if not towards:
        return None
    return SignalEvent(
        ts_event=event.ts_event,
        key=event.key,
        strategy="book pressure",
        direction=Direction.LONG if towards > 0 else Direction.SHORT,
        reference_price=quote.ask_px if towards > 0 else quote.bid_px,
        quantity=quote.ask_sz if towards > 0 else quote.bid_sz,
    )


@on(SignalEvent, name=PLACE_ORDER)
def place_order(signal: SignalEvent) -> OrderEvent:
    """One order a signal. The same signal makes the same client order id."""
    _arrivals.note(PLACE_ORDER, signal.id)
    assert signal.quantity is not None
    return OrderEvent(
        ts_event=now_ns(),
        key=signal.key,
        client_order_id=f"e2e-{signal.id}",
        side=Side.BUY if signal.direction is Direction.LONG else Side.SELL,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.IOC,
        quantity=signal.quantity,
        limit_price=signal.reference_price,
    )


@on(OrderEvent, name=VENUE)
def venue(order: OrderEvent) -> Iterator[Event]:
    """The venue: takes a new order into its book, executes it, and reports every step."""
    _arrivals.note(VENUE, order.id)
    if order.status is not OrderStatus.PENDING_NEW:
        return  # one of its own reports
    _venue_book.note(
        order=order.client_order_id,
        key=order.key,
        side=order.side,
        quantity=order.quantity,
        price=order.limit_price,
        pid=os.getpid(),
    )
    price = order.limit_price
    assert price is not None
    order = order.accepted(ts_event=now_ns(), order_id=f"venue-{order.client_order_id}")
    yield order
    for number, part in enumerate(executions(order.client_order_id, order.quantity), 1):
        fill = FillEvent.of(
            order,
            exec_id=f"{order.client_order_id}/{number}",
            last_quantity=part,
            last_price=price,
            ts_event=now_ns(),
        )
        _venue_book.note(execution=fill.exec_id, order=fill.client_order_id, quantity=part)
        order = order.filled_by(fill)
        yield fill
        yield order


@on(FillEvent, name=KEEP_POSITION)
def keep_position(fill: FillEvent) -> None:
    """Books the fill."""
    _arrivals.note(KEEP_POSITION, fill.id)
    signed = fill.last_quantity if fill.side is Side.BUY else -fill.last_quantity
    _positions.note(execution=fill.exec_id, key=fill.key, quantity=signed)


@on(OrderEvent, FillEvent, name=WATCH)
async def watch(event: OrderEvent | FillEvent) -> None:
    """Reads along, as a risk check would."""
    _arrivals.note(WATCH, event.id)
