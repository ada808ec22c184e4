"""What must hold in every snapshot of an order, whatever wrote it.

Each check returns the first thing wrong as a sentence with field and value, or None.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from .order_life import UNFILLED, OrderStatus
from .problems import shown
from .quantities import open_quantity
from .terms import OrderType, TimeInForce

if TYPE_CHECKING:
    from .orders import OrderEvent

__all__ = ["wrong_quantities", "wrong_terms"]

_WITH_LIMIT: Final = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT})
_WITH_STOP: Final = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})
_ZERO: Final = Decimal(0)


def wrong_terms(order: OrderEvent) -> str | None:
    """Check that the prices fit the order type, and the expiry the time in force."""
    kind, force = order.order_type, order.time_in_force
    for name, value, wanted, why in (
        ("limit_price", order.limit_price, kind in _WITH_LIMIT, f"a {kind.value} order"),
        ("stop_price", order.stop_price, kind in _WITH_STOP, f"a {kind.value} order"),
        ("expire_at", order.expire_at, force is TimeInForce.GTD, f"time in force {force.value}"),
    ):
        if wanted and value is None:
            return f"field {name!r} is missing: {why} needs it"
        if not wanted and value is not None:
            return f"field {name!r}: {why} has none, got {shown(value)}; remove it"
    return None


def wrong_quantities(order: OrderEvent) -> str | None:
    """Check that ordered, filled and open quantity agree with each other and with the state."""
    status, ordered = order.status, order.quantity
    filled, leaves = order.cum_quantity, order.leaves_quantity
    if filled > ordered:
        return f"field 'cum_quantity': {shown(filled)} is more than the ordered {ordered}"
    still_open = open_quantity(status, ordered, filled)
    if leaves != still_open:
        return (
            f"field 'leaves_quantity': a {status.value} order of {ordered} with {filled} filled "
            f"leaves {still_open}, got {shown(leaves)}"
        )
    if status in UNFILLED:
        fits, wanted = filled == _ZERO, "nothing is filled"
    elif status is OrderStatus.PARTIALLY_FILLED:
        fits, wanted = _ZERO < filled < ordered, "a part is filled"
    elif status is OrderStatus.FILLED:
        fits, wanted = filled == ordered, "everything is filled"
    else:
        fits, wanted = filled < ordered, "something is still open"
    if not fits:
        return (
            f"field 'cum_quantity': in a {status.value} order {wanted}, "
            f"got {shown(filled)} of {ordered}"
        )
    if (order.avg_price is None) != (filled == _ZERO):
        return (
            f"field 'avg_price': an order with {filled} filled has "
            f"{'none' if filled == _ZERO else 'one'}, got {shown(order.avg_price)}"
        )
    return None
