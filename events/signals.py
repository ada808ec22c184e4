"""A signal: what a strategy would like to hold, and why. No order follows from it by itself."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from .decimals import Price, Quantity, Size
from .instruments import InstrumentEvent
from .layout import EventType, Partitioned
from .problems import shown
from .record import absent

__all__ = ["Direction", "SignalEvent"]


class Direction(StrEnum):
    """The position that a signal asks for."""

    LONG = "long"
    SHORT = "short"
    FLAT = "flat"


class SignalEvent(InstrumentEvent, type=EventType.SIGNAL, version=1, log=Partitioned(1)):
    """A strategy's opinion on one instrument."""

    #: Name of the strategy.
    strategy: Annotated[str, Field(min_length=1, max_length=128)]
    direction: Direction
    #: Conviction from 0 to 1.
    strength: Size | None = absent()
    #: Price on which the opinion rests.
    reference_price: Price | None = absent()
    #: Quantity that the strategy suggests.
    quantity: Quantity | None = absent()
    #: Why, in words for people.
    reason: str | None = absent()
    #: The strategy's own figures, as text.
    features: dict[str, str] | None = absent()

    @model_validator(mode="after")
    def _check_strength(self) -> Self:
        if self.strength is not None and self.strength > Decimal(1):
            raise ValueError(
                f"field 'strength': conviction goes from 0 to 1, got {shown(self.strength)}"
            )
        return self
