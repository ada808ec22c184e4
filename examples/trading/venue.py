"""Order -> exchange -> fills. And cancels, which run whatever else is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from streamatiq import Event, FillEvent, Liquidity, OrderEvent, OrderStatus, now_ns, on

from .exchange import Answer, Exchange

__all__ = ["cancel_order", "known_to_exchange", "send_order", "sent_once"]


def sent_once(order: OrderEvent) -> str | None:
    """An order has many snapshots under its id; the new one is sent, and once."""
    return order.client_order_id if order.status is OrderStatus.PENDING_NEW else None


def known_to_exchange(order: OrderEvent) -> list[Event] | Literal[False]:
    """A worker has died and nobody knows whether it had sent the order: ask the exchange.

    Returns:
      What there is to report of it; False if the exchange has never heard of it: then it is sent.
    """
    answer = Exchange().find(order.client_order_id)
    return False if answer is None else list(_reports(order, answer))


@on(
    OrderEvent,
    name="trading.venue",
    start="earliest",
    idempotency_key=sent_once,
    on_uncertain=known_to_exchange,
    breaker=True,  # five failures in a row: no orders for a minute, in no process
    breaker_key="venue:sim",
    min_backoff=100,
    max_backoff=1_000,
)
def send_order(order: OrderEvent) -> Iterator[Event]:
    """Sends a new order to the exchange and reports what became of it.

    Raises:
      ExchangeDown: The order stays in its place and is sent again.
    """
    if order.status is OrderStatus.PENDING_NEW:
        yield from _reports(order, Exchange().submit(order))


@on(
    OrderEvent,
    name="trading.cancel",
    start="earliest",
    runs_when_halted=True,  # `streamatiq halt --all` stops everything else
    min_backoff=100,
    max_backoff=1_000,
)
def cancel_order(order: OrderEvent) -> OrderEvent | None:
    """Takes an order out of the exchange's book; nothing to report if it was filled before."""
    if order.status is not OrderStatus.PENDING_CANCEL:
        return None
    answer = Exchange().cancel(order.client_order_id)
    return order.canceled(ts_event=now_ns()) if answer.state == "canceled" else None


def _reports(order: OrderEvent, answer: Answer) -> Iterator[Event]:
    """The order's next snapshots, and its fills."""
    if answer.state == "canceled":
        yield order.canceled(ts_event=now_ns(), reason="cancelled before it was taken")
        return
    order = order.accepted(ts_event=now_ns(), order_id=f"sim-{order.client_order_id}")
    yield order
    for execution in answer.executions:
        fill = FillEvent.of(
            order,
            exec_id=execution.exec_id,
            last_quantity=execution.quantity,
            last_price=execution.price,
            ts_event=now_ns(),
            liquidity=Liquidity.TAKER,
        )
        order = order.filled_by(fill)
        yield fill
        yield order
