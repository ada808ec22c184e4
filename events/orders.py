"""An order as snapshots: each event is the whole order at one step of its life.

A snapshot is complete, so the newest one of an order is enough to know it. The next one comes from
the present one by a method named for what happened; the table of `order_life` decides whether it
may. It gets a new id, names this snapshot as its cause, and keeps the correlation id, so that the
life of an order can be read back.

The event is immutable, as all are: the methods return another event and change nothing.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

from pydantic import Field, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema

from ..errors import InvalidEvent
from .decimals import Price, Quantity, Size, decimal_text
from .definition import require_on_the_wire
from .instruments import InstrumentEvent
from .layout import EventType, Partitioned
from .order_life import PENDING_REQUEST, TERMINAL, OrderStatus, check_pending, check_transition
from .order_rules import wrong_quantities, wrong_terms
from .quantities import checked_quantity, filled_quantity, mean_price, open_quantity, working_status
from .record import absent
from .terms import OrderType, Side, TimeInForce
from .times import Time

if TYPE_CHECKING:
    from .fills import FillEvent

__all__ = ["OrderEvent"]

_ZERO: Final = Decimal(0)
#: Fields that a snapshot does not take over from the one before it.
_RENEWED: Final = frozenset({"id", "ts_published", "reason"})


class OrderEvent(InstrumentEvent, type=EventType.ORDER, version=1, log=Partitioned(1)):
    """One order at one step of its life.

    A new order needs no `status`, `cum_quantity` or `leaves_quantity`: it is pending, with
    nothing filled and everything open.
    """

    #: Our id of the order, the same through its life.
    client_order_id: Annotated[str, Field(min_length=1, max_length=128)]
    #: The venue's id of the order, once it has one.
    order_id: Annotated[str, Field(min_length=1, max_length=128)] | None = absent()
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce = TimeInForce.DAY
    #: When a good-till-date order expires, in ns since 1970 UTC.
    expire_at: Time | None = absent()
    #: Ordered quantity.
    quantity: Quantity
    #: Worst price; of limit and stop-limit orders only.
    limit_price: Price | None = absent()
    #: Trigger price; of stop and stop-limit orders only.
    stop_price: Price | None = absent()
    status: OrderStatus = OrderStatus.PENDING_NEW
    #: Filled so far.
    cum_quantity: Size = _ZERO
    #: Still open; 0 in a terminal state.
    leaves_quantity: Size = _ZERO
    #: Mean price of what is filled, to 28 digits; None while nothing is.
    avg_price: Price | None = absent()
    #: Why it is in this state, in words for people.
    reason: Annotated[str, Field(max_length=1024)] | None = absent()

    def __init__(self, /, **data: Any) -> None:
        data.setdefault("time_in_force", TimeInForce.DAY)
        data.setdefault("status", OrderStatus.PENDING_NEW)
        if "cum_quantity" not in data:
            data["cum_quantity"] = _ZERO
            if "quantity" in data:
                data.setdefault("leaves_quantity", data["quantity"])
        super().__init__(**data)

    # See Record.__init__.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # pydantic's own mark

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = super().__get_pydantic_core_schema__(source, handler)
        require_on_the_wire(schema, "time_in_force", "status", "cum_quantity", "leaves_quantity")
        return schema

    @model_validator(mode="after")
    def _check(self) -> Self:
        wrong = wrong_terms(self) or wrong_quantities(self)
        if wrong is not None:
            raise ValueError(wrong)
        return self

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can follow."""
        return self.status in TERMINAL

    def to(
        self,
        status: OrderStatus,
        *,
        ts_event: int,
        order_id: str | None = None,
        reason: str | None = None,
    ) -> Self:
        """Return the next snapshot, in another state; what is filled stays as it is.

        Parameters:
          status: The next state.
          ts_event: When it was reached, in ns since 1970 UTC.
          order_id: The venue's id of the order, where it is new.
          reason: Why, in words for people.

        Raises:
          IllegalTransition: The present state does not allow the next one.
          InvalidEvent: What is filled does not fit the next state; fills come by `filled_by`.
        """
        return self._next(status, ts_event, order_id=order_id or self.order_id, reason=reason)

    def accepted(self, *, ts_event: int, order_id: str | None = None) -> Self:
        """Return the order as it stands in the venue's book: `new`."""
        return self.to(OrderStatus.NEW, ts_event=ts_event, order_id=order_id)

    def rejected(self, *, ts_event: int, reason: str) -> Self:
        """Return the order as refused by the venue."""
        return self.to(OrderStatus.REJECTED, ts_event=ts_event, reason=reason)

    def cancel_requested(self, *, ts_event: int) -> Self:
        """Return the order while the venue decides on a cancel."""
        return self.to(OrderStatus.PENDING_CANCEL, ts_event=ts_event)

    def canceled(self, *, ts_event: int, reason: str | None = None) -> Self:
        """Return the order as cancelled, by request or by the venue."""
        return self.to(OrderStatus.CANCELED, ts_event=ts_event, reason=reason)

    def expired(self, *, ts_event: int, reason: str | None = None) -> Self:
        """Return the order as ended by its time in force."""
        return self.to(OrderStatus.EXPIRED, ts_event=ts_event, reason=reason)

    def replace_requested(self, *, ts_event: int) -> Self:
        """Return the order while the venue decides on a replace; its terms still hold."""
        return self.to(OrderStatus.PENDING_REPLACE, ts_event=ts_event)

    def replaced(
        self,
        *,
        ts_event: int,
        quantity: Decimal | int | str | None = None,
        limit_price: Decimal | int | str | None = None,
        stop_price: Decimal | int | str | None = None,
    ) -> Self:
        """Return the order with other terms, working again; None leaves a term as it is.

        A quantity cut down to what is filled ends the order as `filled`.

        Raises:
          IllegalTransition: No replace is pending.
          InvalidEvent: The new quantity is less than what is filled, or a term is bad.
        """
        check_pending(self._name, self.status, OrderStatus.PENDING_REPLACE)
        ordered = self.quantity if quantity is None else checked_quantity("quantity", quantity)
        if ordered < self.cum_quantity:
            raise InvalidEvent(
                f"Order {self._name}: field 'quantity' cannot become {decimal_text(ordered)}, "
                f"{decimal_text(self.cum_quantity)} are filled already"
            )
        prices = {"limit_price": limit_price, "stop_price": stop_price}
        changes = {name: value for name, value in prices.items() if value is not None}
        status = working_status(self.cum_quantity, ordered)
        return self._next(status, ts_event, quantity=ordered, **changes)

    def request_refused(self, *, ts_event: int, reason: str) -> Self:
        """Return the order working on as before its pending cancel or replace.

        Raises:
          IllegalTransition: Neither is pending.
        """
        check_pending(self._name, self.status, *PENDING_REQUEST)
        status = working_status(self.cum_quantity, self.quantity)
        return self.to(status, ts_event=ts_event, reason=reason)

    def filled_by(self, fill: FillEvent) -> Self:
        """Return the order after a fill: `partially_filled`, `filled`, or still pending.

        Raises:
          InvalidEvent: The fill is of another order, came before, or one before it is missing.
          IllegalTransition: The order's state allows no fill.
          Overfill: The fill is more than the order leaves.
        """
        cum = filled_quantity(self, fill)
        status = working_status(cum, self.quantity)
        if status is OrderStatus.PARTIALLY_FILLED and self.status in PENDING_REQUEST:
            status = self.status
        return self._next(
            status,
            fill.ts_event,
            order_id=self.order_id or fill.order_id,
            cum_quantity=cum,
            avg_price=mean_price(self, fill),
        )

    def _next(self, status: OrderStatus, ts_event: int, **changes: Any) -> Self:
        check_transition(self._name, self.status, status)
        fields: dict[str, Any] = {
            name: getattr(self, name) for name in type(self).model_fields if name not in _RENEWED
        }
        fields |= changes
        fields |= {
            "ts_event": ts_event,
            "status": status,
            "causation_id": self.id,
            "correlation_id": self.correlation_id or self.id,
            "leaves_quantity": open_quantity(status, fields["quantity"], fields["cum_quantity"]),
        }
        return type(self)(**fields)

    @property
    def _name(self) -> str:
        return f"{self.client_order_id!r} of {self.key}"
