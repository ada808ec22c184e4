"""The life of an order: its states, and which may follow which, as data.

Source: the order state change matrices of FIX 4.4 (volume 4, appendix D) and its order of
precedence of OrdStatus <39>. Where we differ, and why:

- `replaced` is no state: since FIX 4.3 an order that was replaced is `new` or `partially_filled`
  again, with other terms.
- `calculated` and `accepted_for_bidding` are left out: they belong to post-trade and list trading.
- A partial fill does not end a pending cancel or replace (precedence: the pending state wins), but
  a complete fill does: FIX would show a pending state with nothing left, which helps nobody.
- A terminal state is final. FIX corrects or busts a trade afterwards by execution reports of their
  own kind; here that is a new fact about the fill, not another state of the order.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from ..errors import IllegalTransition

__all__ = [
    "NEXT",
    "PENDING_REQUEST",
    "TERMINAL",
    "UNFILLED",
    "OrderStatus",
    "check_pending",
    "check_transition",
]


class OrderStatus(StrEnum):
    """State of an order, named as FIX names OrdStatus <39>."""

    PENDING_NEW = "pending_new"
    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    DONE_FOR_DAY = "done_for_day"
    CANCELED = "canceled"
    PENDING_CANCEL = "pending_cancel"
    PENDING_REPLACE = "pending_replace"
    STOPPED = "stopped"
    SUSPENDED = "suspended"
    REJECTED = "rejected"
    EXPIRED = "expired"


_S = OrderStatus

#: States that work on: what may follow each of them. A state not in here is terminal.
NEXT: Final[Mapping[OrderStatus, tuple[OrderStatus, ...]]] = {
    _S.PENDING_NEW: (
        _S.NEW,
        _S.PARTIALLY_FILLED,
        _S.FILLED,
        _S.PENDING_CANCEL,
        _S.STOPPED,
        _S.SUSPENDED,
        _S.CANCELED,
        _S.REJECTED,
        _S.EXPIRED,
    ),
    _S.NEW: (
        _S.PARTIALLY_FILLED,
        _S.FILLED,
        _S.PENDING_CANCEL,
        _S.PENDING_REPLACE,
        _S.DONE_FOR_DAY,
        _S.STOPPED,
        _S.SUSPENDED,
        _S.CANCELED,
        _S.REJECTED,
        _S.EXPIRED,
    ),
    _S.PARTIALLY_FILLED: (
        _S.PARTIALLY_FILLED,
        _S.FILLED,
        _S.PENDING_CANCEL,
        _S.PENDING_REPLACE,
        _S.DONE_FOR_DAY,
        _S.STOPPED,
        _S.SUSPENDED,
        _S.CANCELED,
        _S.EXPIRED,
    ),
    # Back to `new` or `partially_filled`: the cancel was refused.
    _S.PENDING_CANCEL: (
        _S.PENDING_CANCEL,
        _S.NEW,
        _S.PARTIALLY_FILLED,
        _S.FILLED,
        _S.DONE_FOR_DAY,
        _S.CANCELED,
        _S.REJECTED,
        _S.EXPIRED,
    ),
    # To `new` or `partially_filled`: replaced, or the replace was refused.
    _S.PENDING_REPLACE: (
        _S.PENDING_REPLACE,
        _S.PENDING_CANCEL,
        _S.NEW,
        _S.PARTIALLY_FILLED,
        _S.FILLED,
        _S.DONE_FOR_DAY,
        _S.CANCELED,
        _S.EXPIRED,
    ),
    # To `new` or `partially_filled`: renewed the next day.
    _S.DONE_FOR_DAY: (
        _S.NEW,
        _S.PARTIALLY_FILLED,
        _S.FILLED,
        _S.PENDING_CANCEL,
        _S.PENDING_REPLACE,
        _S.CANCELED,
        _S.EXPIRED,
    ),
    # Stopped: a price is guaranteed, the trade is to come.
    _S.STOPPED: (
        _S.PARTIALLY_FILLED,
        _S.FILLED,
        _S.PENDING_CANCEL,
        _S.PENDING_REPLACE,
        _S.DONE_FOR_DAY,
        _S.SUSPENDED,
        _S.CANCELED,
        _S.EXPIRED,
    ),
    # To `new` or `partially_filled`: resumed.
    _S.SUSPENDED: (
        _S.NEW,
        _S.PARTIALLY_FILLED,
        _S.FILLED,
        _S.PENDING_CANCEL,
        _S.PENDING_REPLACE,
        _S.DONE_FOR_DAY,
        _S.CANCELED,
        _S.REJECTED,
        _S.EXPIRED,
    ),
}

#: States that nothing follows.
TERMINAL: Final = frozenset(OrderStatus) - NEXT.keys()

#: States in which the venue has a request to decide on; a partial fill does not end them.
PENDING_REQUEST: Final = frozenset({_S.PENDING_CANCEL, _S.PENDING_REPLACE})

#: States in which nothing has been filled.
UNFILLED: Final = frozenset({_S.PENDING_NEW, _S.NEW, _S.REJECTED})


def check_transition(order: str, present: OrderStatus, asked: OrderStatus) -> None:
    """Let a legal change of state pass.

    Parameters:
      order: The order's name for the message.

    Raises:
      IllegalTransition: The order's life does not allow it; the message says what it allows.
    """
    allowed = NEXT.get(present, ())
    if asked not in allowed:
        choices = ", ".join(allowed) or f"nothing: {present} is final"
        raise IllegalTransition(
            f"Order {order} cannot go from {present} to {asked}; allowed: {choices}"
        )


def check_pending(order: str, present: OrderStatus, *pending: OrderStatus) -> None:
    """Let the answer to a request pass where that request is pending.

    Raises:
      IllegalTransition: It is not; the message names the present state.
    """
    if present not in pending:
        wanted = " or ".join(sorted(pending))
        raise IllegalTransition(
            f"Order {order} is {present}: only an order that is {wanted} gets an answer "
            "to its request"
        )
