"""Arithmetic of an order's quantities: exact sums, one rounded mean."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, Final

from pydantic_core import PydanticCustomError

from ..errors import InvalidEvent, Overfill
from .decimals import EXACT, decimal_text, read_quantity
from .order_life import TERMINAL, OrderStatus
from .problems import shown

if TYPE_CHECKING:
    from .fills import FillEvent
    from .orders import OrderEvent

__all__ = ["checked_quantity", "filled_quantity", "mean_price", "open_quantity", "working_status"]

#: Significant digits of a mean price.
MEAN_DIGITS: Final = 28
#: Most decimal places of a mean price; keeps its text within the limit of a decimal.
MEAN_PLACES: Final = 40

_MEAN: Final = Context(prec=MEAN_DIGITS, rounding=ROUND_HALF_EVEN)
_ROUNDED: Final = Context(prec=2 * MEAN_DIGITS + MEAN_PLACES, rounding=ROUND_HALF_EVEN)


def open_quantity(status: OrderStatus, ordered: Decimal, filled: Decimal) -> Decimal:
    """Return what is still open in a state: the rest, or 0 where the order has ended."""
    return Decimal(0) if status in TERMINAL else EXACT.subtract(ordered, filled)


def working_status(filled: Decimal, ordered: Decimal) -> OrderStatus:
    """Return the state of an order in the book with so much filled."""
    if filled == ordered:
        return OrderStatus.FILLED
    return OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.NEW


def checked_quantity(field: str, value: Decimal | int | str) -> Decimal:
    """Return a quantity that a caller passed, before anything is computed from it.

    Raises:
      InvalidEvent: It is no quantity, a float above all; field and value are named.
    """
    try:
        return read_quantity(value)
    except PydanticCustomError as error:
        raise InvalidEvent(f"field {field!r}: {error}, got {shown(value)}") from None


def filled_quantity(order: OrderEvent, fill: FillEvent) -> Decimal:
    """Return what is filled after a fill that fits the order.

    Raises:
      InvalidEvent: The fill is of another order, came before, or one before it is missing.
      Overfill: The fill is more than the order leaves.
    """
    for name in ("key", "client_order_id", "side"):
        mine, theirs = getattr(order, name), getattr(fill, name)
        if mine != theirs:
            raise InvalidEvent(
                f"Fill {fill.exec_id!r} belongs to another order: field {name!r} is "
                f"{shown(theirs)}, the order's is {shown(mine)}"
            )
    cum = EXACT.add(order.cum_quantity, fill.last_quantity)
    who = f"Fill {fill.exec_id!r} of order {order.client_order_id!r}"
    if fill.cum_quantity <= order.cum_quantity:
        raise InvalidEvent(
            f"{who}: field 'cum_quantity' is {decimal_text(fill.cum_quantity)}, and the order has "
            f"{decimal_text(order.cum_quantity)} filled already: this fill was applied before"
        )
    if cum > order.quantity:
        raise Overfill(
            f"{who}: last_quantity {decimal_text(fill.last_quantity)} exceeds what is open: "
            f"{decimal_text(EXACT.subtract(order.quantity, order.cum_quantity))} "
            f"of {decimal_text(order.quantity)}"
        )
    if fill.cum_quantity != cum:
        raise InvalidEvent(
            f"{who}: field 'cum_quantity' is {decimal_text(fill.cum_quantity)}, and the order "
            f"expects {decimal_text(cum)}: a fill before this one is missing"
        )
    return cum


def mean_price(order: OrderEvent, fill: FillEvent) -> Decimal:
    """Return the mean price after a fill; the first fill's own price stays as it is."""
    if order.avg_price is None:
        return fill.last_price
    before = EXACT.multiply(order.avg_price, order.cum_quantity)
    value = EXACT.fma(fill.last_price, fill.last_quantity, before)
    mean = _MEAN.divide(value, EXACT.add(order.cum_quantity, fill.last_quantity))
    places = -int(mean.as_tuple().exponent)
    if 0 <= places <= MEAN_PLACES:
        return mean
    return _ROUNDED.quantize(mean, Decimal(1).scaleb(-min(max(places, 0), MEAN_PLACES)))
