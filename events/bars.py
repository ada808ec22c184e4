"""A bar: what an instrument traded at during one interval, a candle in other words.

A bar is complete: it is written when its interval is over. The interval takes in its start and not
its end, so neighbouring bars share no trade. The event's own `ts_event` is when the bar was known,
which is its end or later.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .decimals import Price, Size, decimal_text
from .record import Record, absent
from .times import Time

__all__ = ["Bar"]


class Bar(Record):
    """Open, high, low, close and volume of one interval.

    A bar without a trade has volume 0, and for its prices whatever the feed says.
    """

    kind: Literal["bar"] = "bar"
    #: Start of the interval, in ns since 1970 UTC; the first instant that belongs to it.
    ts_start: Time
    #: Length of the interval, in ns; of a calendar month, the length of this one.
    interval_ns: Annotated[int, Field(ge=1)]
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Size
    #: Mean price weighted by volume, as the feed has it.
    vwap: Price | None = absent()
    #: Number of trades.
    trade_count: Annotated[int, Field(ge=0)] | None = absent()

    @model_validator(mode="after")
    def _check_prices(self) -> Self:
        low, high = self.low, self.high
        if not low <= self.open <= high or not low <= self.close <= high:
            name = "close" if low <= self.open <= high else "open"
            raise ValueError(
                f"field {name!r}: {decimal_text(getattr(self, name))} is not between low "
                f"{decimal_text(low)} and high {decimal_text(high)} of its bar"
            )
        return self

    @property
    def ts_end(self) -> int:
        """End of the interval, in ns since 1970 UTC; the first instant after it."""
        return self.ts_start + self.interval_ns
