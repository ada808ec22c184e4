"""A simulated market: quotes and trades of some instruments, without end, from a seed.

Prices walk on a grid of whole ticks, so they are exact; every instrument has a tick, a lot and a
first price of its own, which follow from the seed and its name. About four events in five are
quotes. Trades happen at the touch: a buyer pays the ask, a seller gets the bid. With the same
seed, clock and ids the encoded events are the same, byte for byte.

Only `Random.random` is used: its sequence for a seed is the same in every version of Python.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Final
from uuid import UUID

from ..errors import InvalidEvent
from ..events import MarketDataEvent, Side, instrument, new_id

__all__ = ["MarketSimulator"]

#: Share of trades among the events.
TRADE_SHARE: Final = 0.2
#: Decimal places of prices and sizes, from which each instrument gets its own.
_PRICE_PLACES: Final = (1, 2, 3, 4)
_SIZE_PLACES: Final = (0, 1, 2, 3)
#: First mid price, in ticks.
_FIRST_TICKS: Final = (20_000, 2_000_000)
#: Lowest bid, in ticks: the walk is turned back here, so that prices stay positive.
_LOWEST_BID_TICKS: Final = 100
#: Widest spread, in ticks.
_WIDEST_TICKS: Final = 4
#: Largest size, in lots.
_LARGEST_LOTS: Final = 5_000


class _Book:
    """Best bid and ask of one instrument, in ticks."""

    __slots__ = ("ask_ticks", "bid_ticks", "key", "last_trade", "price_text", "size_text")

    def __init__(self, key: str, seed: int) -> None:
        rng = Random(f"{seed}:{key}")
        self.key = key
        low, high = _FIRST_TICKS
        self.bid_ticks = low + int(rng.random() * (high - low))
        self.ask_ticks = self.bid_ticks + 1
        self.price_text = _fixed(_PRICE_PLACES[int(rng.random() * len(_PRICE_PLACES))])
        self.size_text = _fixed(_SIZE_PLACES[int(rng.random() * len(_SIZE_PLACES))])
        self.last_trade = 0

    def step(self, chance: float) -> None:
        """Moves the bid by one tick down, none or up, and draws a spread, from one number."""
        move = int(chance * 3)
        spread = 1 + int(_cubed(chance * 3 - move) * _WIDEST_TICKS)
        self.bid_ticks = max(self.bid_ticks + move - 1, _LOWEST_BID_TICKS)
        self.ask_ticks = self.bid_ticks + spread


class MarketSimulator:
    """An endless iterator of market data events. Not thread-safe.

    Parameters:
      seed: Decides everything but times and ids.
      instruments: Keys, `VENUE:SYMBOL`, each once.
      clock_ns: Gives the time of each event, in ns since 1970 UTC.
      ids: Gives the id of each event.
      source: `source` of every event.

    Raises:
      InvalidEvent: There is no instrument, one stands there twice, or one is no key.
    """

    def __init__(
        self,
        seed: int,
        instruments: Sequence[str],
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        ids: Callable[[], UUID] = new_id,
        source: str = "simulator",
    ) -> None:
        if not instruments or len(set(instruments)) < len(instruments):
            raise InvalidEvent(
                f"instruments are {list(instruments)!r}; give at least one, and each only once"
            )
        for key in instruments:
            venue, _, symbol = key.partition(":")
            instrument(venue, symbol)
        self._random = Random(seed).random
        self._books = [_Book(key, seed) for key in instruments]
        self._clock_ns = clock_ns
        self._ids = ids
        self._source = source

    def __iter__(self) -> Iterator[MarketDataEvent]:
        return self

    def __next__(self) -> MarketDataEvent:
        """The next event; there always is one."""
        random = self._random
        book = self._books[int(random() * len(self._books))]
        data = self._trade(book) if random() < TRADE_SHARE else self._quote(book)
        return MarketDataEvent(
            id=self._ids(),
            ts_event=self._clock_ns(),
            source=self._source,
            key=book.key,
            data=data,
        )

    def take(self, count: int) -> list[MarketDataEvent]:
        """The next `count` events."""
        return [next(self) for _ in range(count)]

    def _quote(self, book: _Book) -> dict[str, object]:
        book.step(self._random())
        return {
            "kind": "quote",
            "bid_px": book.price_text(book.bid_ticks),
            "bid_sz": book.size_text(self._lots()),
            "ask_px": book.price_text(book.ask_ticks),
            "ask_sz": book.size_text(self._lots()),
        }

    def _trade(self, book: _Book) -> dict[str, object]:
        buys = self._random() < 0.5
        book.last_trade += 1
        return {
            "kind": "trade",
            "price": book.price_text(book.ask_ticks if buys else book.bid_ticks),
            "size": book.size_text(self._lots()),
            "trade_id": str(book.last_trade),
            "aggressor": Side.BUY if buys else Side.SELL,
        }

    def _lots(self) -> int:
        """A size in lots: mostly small."""
        return 1 + int(_cubed(self._random()) * _LARGEST_LOTS)


def _cubed(chance: float) -> float:
    """Makes small values frequent. Not `** 3`, whose last bit is the platform's choice."""
    return chance * chance * chance


def _fixed(places: int) -> Callable[[int], str]:
    """A function that writes a count of 10**-places as plain decimal text."""
    if places == 0:
        return str
    unit = 10**places

    def text(count: int) -> str:
        return f"{count // unit}.{count % unit:0{places}d}"

    return text
