"""Market data: what a feed says of an instrument. Four kinds: quote, trade, bar, book deltas.

Feeds are written down as they come. A crossed or locked quote (bid at or above ask) is a fact of
a feed and not an error; a size of 0 says that a side is empty; a price may be negative. `ts_recv`
is the receiver's clock, which may run behind the exchange's: no order of the two is assumed.

`data.kind` tells the kinds apart. A further kind leaves the schema version as it is, because what
is stored keeps its meaning: code that does not know the kind refuses those events, by name, and
goes on reading the others. A raised version would make it refuse every quote.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .bars import Bar
from .book import BookDeltas
from .decimals import Price, Quantity, Size
from .instruments import InstrumentEvent
from .layout import EventType, Partitioned
from .record import Record, absent
from .terms import Side
from .times import Time

__all__ = ["MarketDataEvent", "Quote", "Trade"]


class Quote(Record):
    """The best bid and ask."""

    kind: Literal["quote"] = "quote"
    bid_px: Price
    bid_sz: Size
    ask_px: Price
    ask_sz: Size
    #: The feed's own number of this update.
    update_id: int | None = absent()


class Trade(Record):
    """One trade."""

    kind: Literal["trade"] = "trade"
    price: Price
    size: Quantity
    #: The venue's id of the trade; text, since venues differ.
    trade_id: str | None = absent()
    #: Side of the order that took liquidity.
    aggressor: Side | None = absent()
    #: The venue's word for the kind of trade, such as a block or a liquidation.
    trade_kind: str | None = absent()


class MarketDataEvent(InstrumentEvent, type=EventType.MARKET_DATA, version=1, log=Partitioned(1)):
    """A quote, a trade, a bar, or changes of the order book, of one instrument."""

    #: When it reached the receiver, in ns since 1970 UTC by the receiver's clock.
    ts_recv: Time | None = absent()
    data: Annotated[Quote | Trade | Bar | BookDeltas, Field(discriminator="kind")]
