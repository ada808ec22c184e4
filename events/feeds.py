"""What the detectors of feeds share: the name of a feed, a bounded table, state as bytes.

A feed is what a venue numbers and times by itself: one kind of data of one instrument. Quotes and
trades of the same instrument come over different ways and overtake each other, so they are two
feeds (see docs/feeds.md, with figures of a recording).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from pydantic import ValidationError

from ..errors import DetectorError
from .event import Event
from .market_data import MarketDataEvent
from .problems import describe, shown
from .record import Record

__all__ = ["MAX_KEYS", "KeyTable", "checked", "feed_of", "read_state"]

#: Keys that a detector remembers unless it is told otherwise.
MAX_KEYS: Final = 10_000

T = TypeVar("T")
S = TypeVar("S", bound=Record)


def feed_of(event: Event) -> str:
    """Return the name of the feed that an event belongs to: `BINANCE:BTCUSDT trade`.

    The event's key, and what it is: the kind of market data, or else the event type.
    """
    what = event.data.kind if isinstance(event, MarketDataEvent) else event.type
    return f"{event.key} {what}"


class KeyTable(Generic[T]):
    """A value a key, of at most so many keys: a new one displaces the one that was put longest ago.

    Not thread-safe: each detector has one, under its lock.

    Parameters:
      max_keys: Bound, 1 or more.

    Raises:
      DetectorError: The bound is less than 1.
    """

    def __init__(self, max_keys: int) -> None:
        self._max_keys = checked("max_keys", max_keys, 1)
        self._values: OrderedDict[str, T] = OrderedDict()
        #: Keys that were displaced so far.
        self.displaced = 0

    def get(self, key: str) -> T | None:
        """The value of a key; None if it is not known."""
        return self._values.get(key)

    def put(self, key: str, value: T) -> None:
        """Sets the value of a key, which is the newest one now."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._max_keys:
            self._values.popitem(last=False)
            self.displaced += 1

    def drop(self, key: str) -> bool:
        """Takes a key out; says whether it was there."""
        return self._values.pop(key, None) is not None

    def clear(self) -> None:
        self._values.clear()

    def items(self) -> Iterator[tuple[str, T]]:
        """Keys and values, the one that was put longest ago first."""
        return iter(self._values.items())

    def __len__(self) -> int:
        return len(self._values)


def checked(name: str, value: int, least: int) -> int:
    """Return a parameter of a detector.

    Raises:
      DetectorError: It is no int, or less than `least`.
    """
    if value.__class__ is not int or value < least:
        raise DetectorError(f"{name} is {shown(value)}; give an int of {least} or more")
    return value


def read_state(cls: type[S], data: bytes) -> S:
    """Return the state that a detector has written.

    Raises:
      DetectorError: The bytes are no state of this kind of detector.
    """
    try:
        return cls.model_validate_json(data)
    except ValidationError as error:
        raise DetectorError(
            f"{describe(cls.__name__, error)}. Restore what state() of the same kind of detector "
            "has returned, or begin without."
        ) from None
