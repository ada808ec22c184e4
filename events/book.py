"""Changes of an order book, as a venue sends them.

One message of a venue is one `BookDeltas`, however many levels it changes: a book in which half of
a message is applied never existed. Venues differ in how they number messages, and three numbers say
it all: a message covers the updates `first_update_id` to `last_update_id`, and some name in
`prev_update_id` the last one of the message before. One sequence number a message stands in
`last_update_id` alone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from .decimals import Price, Size, decimal_text
from .problems import shown
from .record import Record, absent
from .terms import Side

__all__ = ["BookAction", "BookDelta", "BookDeltas", "missed_updates"]


class BookAction(StrEnum):
    """What happens to a level, or to one order where the feed has single orders.

    Clearing the whole book is no action but a snapshot; see `BookDeltas.snapshot`.
    """

    ADD = "add"
    #: It has this size now, whether it was there before or not.
    UPDATE = "update"
    DELETE = "delete"


def _action_by_size(fields: dict[str, Any]) -> BookAction:
    return BookAction.UPDATE if fields["size"] else BookAction.DELETE


class BookDelta(Record):
    """One change: the size that a level, or an order, has from now on; 0 takes it away.

    Feeds that only say sizes need no `action`: it follows, `delete` for 0 and else `update`.
    """

    #: `buy` for bids, `sell` for asks.
    side: Side
    price: Price
    #: Size after the change, never a difference.
    size: Size
    action: BookAction = Field(default_factory=_action_by_size)
    #: The venue's id of the order, where the feed has single orders.
    order_id: Annotated[str, Field(min_length=1, max_length=128)] | None = absent()

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if (self.action is BookAction.DELETE) == bool(self.size):
            raise ValueError(
                f"field 'size': {decimal_text(self.size)} does not fit action "
                f"{self.action.value!r}: a delete leaves 0, an add or update more"
            )
        return self


class BookDeltas(Record):
    """The changes of one message of a venue, to be applied together and in order."""

    kind: Literal["book_deltas"] = "book_deltas"
    deltas: tuple[BookDelta, ...]
    #: The book begins anew: empty it, then apply. No deltas then say that it is empty.
    snapshot: bool = False
    #: First update that the message covers, by the venue's numbers.
    first_update_id: int | None = absent()
    #: Last update that the message covers, or its only number.
    last_update_id: int | None = absent()
    #: Last update of the message before.
    prev_update_id: int | None = absent()

    @model_validator(mode="after")
    def _check_ids(self) -> Self:
        first, last = self.first_update_id, self.last_update_id
        if first is not None and (last is None or last < first):
            raise ValueError(
                f"field 'last_update_id': a message that begins with update {first} ends with it "
                f"or a later one, got {shown(last)}"
            )
        return self


def missed_updates(last_update_id: int | None, update: BookDeltas) -> range:
    """Return the numbers among which an update is missing before a message; empty if none is.

    Where a venue numbers without holes, each of them is missing. A snapshot needs nothing before
    it, and a message without numbers says nothing. A message that was applied before (its own
    `last_update_id` is not above the given one) misses nothing either; it is to be dropped.

    Parameters:
      last_update_id: Of the message or snapshot applied last; None before the first.
      update: The message that came now, of the same instrument.
    """
    if last_update_id is None or update.snapshot or update.last_update_id is None:
        return range(0)
    if update.prev_update_id is not None:
        before = update.prev_update_id
    elif update.first_update_id is not None:
        before = update.first_update_id - 1
    else:
        before = update.last_update_id - 1
    return range(last_update_id + 1, before + 1)
