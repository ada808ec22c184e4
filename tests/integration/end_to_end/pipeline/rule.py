"""The decisions of the pipeline. Pure, so that the test can take them again from the file."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from zlib import crc32

__all__ = ["executions", "pressure"]

#: A side of the book that is this many times larger than the other makes a signal.
TIMES = 20
#: One quote in so many is looked at: signals are then about 3 % of the recording.
EVERY = 8
#: Most executions of one order.
MOST_EXECUTIONS = 3


def pressure(bid_size: Decimal, ask_size: Decimal, update_id: int) -> int:
    """1 if buyers outweigh sellers by far, -1 the other way round, 0 if there is no signal."""
    if update_id % EVERY or not bid_size or not ask_size:
        return 0
    if bid_size >= ask_size * TIMES:
        return 1
    return -1 if ask_size >= bid_size * TIMES else 0


def executions(client_order_id: str, quantity: Decimal) -> Iterator[Decimal]:
    """The parts in which the venue fills an order: one to three, in sum exactly `quantity`."""
    digits = int(quantity.as_tuple().exponent)
    units = int(quantity.scaleb(-digits))
    count = min(1 + crc32(client_order_id.encode()) % MOST_EXECUTIONS, units)
    for number in range(count):
        yield Decimal(units // count + (number < units % count)).scaleb(digits)
