"""A fill: one execution of a part of an order, with the order's running totals after it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from ..errors import Overfill
from .decimals import EXACT, Price, Quantity, Size, decimal_text
from .instruments import InstrumentEvent
from .layout import EventType, Partitioned
from .problems import shown
from .quantities import checked_quantity
from .record import absent
from .terms import Liquidity, Side

if TYPE_CHECKING:
    from .orders import OrderEvent

__all__ = ["FillEvent"]


class FillEvent(InstrumentEvent, type=EventType.FILL, version=1, log=Partitioned(1)):
    """One execution.

    Raises:
      Overfill: More is filled, or filled and open, than was ordered.
    """

    #: The venue's id of this execution; one fill each.
    exec_id: Annotated[str, Field(min_length=1, max_length=128)]
    #: Our id of the order.
    client_order_id: Annotated[str, Field(min_length=1, max_length=128)]
    #: The venue's id of the order.
    order_id: Annotated[str, Field(min_length=1, max_length=128)] | None = absent()
    side: Side
    #: Ordered quantity.
    quantity: Quantity
    #: Quantity of this fill.
    last_quantity: Quantity
    #: Price of this fill.
    last_price: Price
    #: Filled so far, this fill included.
    cum_quantity: Quantity
    #: Still open after this fill; 0 where the rest was cancelled with it.
    leaves_quantity: Size
    #: Fee paid, negative where the venue pays a rebate.
    fee: Price | None = absent()
    #: Currency or asset of the fee; stands with `fee` only.
    fee_currency: Annotated[str, Field(min_length=1, max_length=32)] | None = absent()
    liquidity: Liquidity = Liquidity.UNKNOWN

    @model_validator(mode="after")
    def _check_quantities(self) -> Self:
        if self.cum_quantity < self.last_quantity:
            raise ValueError(
                f"field 'cum_quantity': {self.cum_quantity} filled so far is less than "
                f"last_quantity {self.last_quantity} of this fill alone"
            )
        if EXACT.add(self.cum_quantity, self.leaves_quantity) > self.quantity:
            raise Overfill(
                f"Fill {self.exec_id!r} of order {self.client_order_id!r}: cum_quantity "
                f"{decimal_text(self.cum_quantity)} and leaves_quantity "
                f"{decimal_text(self.leaves_quantity)} exceed the ordered quantity "
                f"{decimal_text(self.quantity)}"
            )
        if (self.fee is None) != (self.fee_currency is None):
            raise ValueError(
                f"field 'fee_currency': fee and its currency stand together, got fee "
                f"{shown(self.fee)} and fee_currency {shown(self.fee_currency)}"
            )
        return self

    @classmethod
    def of(
        cls,
        order: OrderEvent,
        *,
        exec_id: str,
        last_quantity: Decimal | int | str,
        last_price: Decimal | int | str,
        ts_event: int,
        fee: Decimal | int | str | None = None,
        fee_currency: str | None = None,
        liquidity: Liquidity = Liquidity.UNKNOWN,
        source: str = "",
    ) -> Self:
        """Return the fill of a part of an order, with the totals that follow from it.

        Parameters:
          order: The latest snapshot of the order; its effect is `order.filled_by(fill)`.
          exec_id: The venue's id of the execution.
          last_quantity: Quantity of this fill.
          last_price: Price of this fill.
          ts_event: When it traded, in ns since 1970 UTC.
          fee: Fee paid, negative for a rebate.
          fee_currency: Currency or asset of the fee.
          liquidity: Whether the order made or took liquidity.
          source: Who reports it.

        Raises:
          Overfill: It is more than the order leaves.
          InvalidEvent: A value is bad.
        """
        last = checked_quantity("last_quantity", last_quantity)
        if last > order.leaves_quantity:
            raise Overfill(
                f"Fill {exec_id!r} of {decimal_text(last)} exceeds what order "
                f"{order.client_order_id!r} leaves: {decimal_text(order.leaves_quantity)} "
                f"of {decimal_text(order.quantity)}"
            )
        return cls(
            ts_event=ts_event,
            source=source,
            key=order.key,
            correlation_id=order.correlation_id or order.id,
            causation_id=order.id,
            priority=order.priority,
            trace=order.trace,
            exec_id=exec_id,
            client_order_id=order.client_order_id,
            order_id=order.order_id,
            side=order.side,
            quantity=order.quantity,
            last_quantity=last,
            last_price=last_price,
            cum_quantity=EXACT.add(order.cum_quantity, last),
            leaves_quantity=EXACT.subtract(order.leaves_quantity, last),
            fee=fee,
            fee_currency=fee_currency,
            liquidity=liquidity,
        )
