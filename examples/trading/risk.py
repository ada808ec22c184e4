"""Signal -> order, if the limits allow it; fills -> position; and the kill switch."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

from streamatiq import (
    Direction,
    FillEvent,
    OrderEvent,
    OrderType,
    Side,
    SignalEvent,
    TimeInForce,
    now_ns,
    on,
    publish_many,
)

from .risk_book import Limits, RiskBook

__all__ = ["LIMITS", "check_risk", "keep_position", "kill", "size_of"]

LIMITS = Limits(order=Decimal(10_000), position=Decimal(30_000), gross=Decimal(80_000))


@on(SignalEvent, name="trading.risk", start="earliest", ordered=True)
def check_risk(signal: SignalEvent) -> OrderEvent | None:
    """At most one order a signal, within the limits.

    The order's id follows from the signal's. If a worker dies between the book and the end of its
    delivery, the handler runs again, and the book gives out the order that it has.
    """
    assert signal.reference_price is not None
    assert signal.quantity is not None
    quantity = size_of(signal.quantity, signal.reference_price)
    if not quantity:
        return None
    order = OrderEvent(
        ts_event=now_ns(),
        key=signal.key,
        client_order_id=f"order-{signal.id}",
        side=Side.BUY if signal.direction is Direction.LONG else Side.SELL,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC,
        quantity=quantity,
        limit_price=signal.reference_price,
    )
    return RiskBook().reserve(order, LIMITS)


def size_of(offered: Decimal, price: Decimal) -> Decimal:
    """What is offered, or as much of it as one order may cost, in whole lots."""
    lot = Decimal(1).scaleb(int(offered.as_tuple().exponent))
    return min(offered, (LIMITS.order / price).quantize(lot, rounding=ROUND_DOWN))


@on(OrderEvent, FillEvent, name="trading.positions", start="earliest")
def keep_position(event: OrderEvent | FillEvent) -> None:
    """Books fills, and frees what an order had reserved when it ends without them."""
    if isinstance(event, FillEvent):
        RiskBook().fill(event)
    elif event.is_terminal:
        RiskBook().end(event)


def kill(reason: str) -> int:
    """The kill switch: no new orders from now on, and every open one is to be cancelled.

    Returns:
      How many orders were open.
    """
    book = RiskBook()
    book.kill(reason)
    cancels = [order.cancel_requested(ts_event=now_ns()) for order in book.open_orders()]
    publish_many(cancels)
    return len(cancels)
