"""How the log of an event type is laid out: by key in partitions, or by priority in lanes.

Never both: lanes would split the order of one key over several streams.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ..errors import EventDefinitionError

__all__ = ["EventType", "Lane", "Laned", "Partitioned"]

#: Most partitions a log may have: each costs a stream, a lease and a group per subscription.
MAX_PARTITIONS: Final = 4096


class EventType(StrEnum):
    """Type names of the events that come with Streamatiq."""

    MARKET_DATA = "market_data"
    SIGNAL = "signal"
    ORDER = "order"
    FILL = "fill"


class Lane(StrEnum):
    """A priority level of a work queue or a laned log, most urgent first."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Partitioned:
    """A log split by event key: the events of one key stay in order in one stream.

    Parameters:
      partitions: Number of streams, from 1 to 4096; fixed once the log exists.

    Raises:
      EventDefinitionError: The number is out of range.
    """

    partitions: int = 1

    def __post_init__(self) -> None:
        count = self.partitions
        if type(count) is not int or not 1 <= count <= MAX_PARTITIONS:
            raise EventDefinitionError(
                f"Partitioned({count!r}): the number of partitions is an int "
                f"from 1 to {MAX_PARTITIONS}"
            )


@dataclass(frozen=True, slots=True)
class Laned:
    """A log split by priority: one stream a `Lane`, urgent events overtake others."""
