"""The words of trading that several events share, as they stand on the wire."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Liquidity", "OrderType", "Side", "TimeInForce"]


class Side(StrEnum):
    """The side of an order, of a fill, or of a trade's aggressor."""

    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    """How the price of an order is set."""

    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"


class TimeInForce(StrEnum):
    """How long an order may work."""

    #: Until the end of the trading day.
    DAY = "day"
    #: Until cancelled.
    GTC = "gtc"
    #: At once, whatever can be filled; the rest is cancelled.
    IOC = "ioc"
    #: At once and in full, or not at all.
    FOK = "fok"
    #: Until a given time.
    GTD = "gtd"


class Liquidity(StrEnum):
    """Whether a fill added liquidity to the book or took it."""

    MAKER = "maker"
    TAKER = "taker"
    UNKNOWN = "unknown"
