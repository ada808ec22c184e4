"""Market data -> signal: two moving averages of the mid price cross."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from streamatiq import Direction, MarketDataEvent, Quote, SignalEvent, on

__all__ = ["find_signal", "forget_prices"]

#: Quotes that the averages look back on.
FAST, SLOW = 5, 20


@dataclass(slots=True)
class _Averages:
    fast: float
    slow: float
    quotes: int = 1

    def add(self, price: float) -> bool | None:
        """Takes a price in. True: with it fast went above slow; False: below; None: neither."""
        was_above = self.fast > self.slow
        self.fast += (price - self.fast) * 2 / (FAST + 1)
        self.slow += (price - self.slow) * 2 / (SLOW + 1)
        self.quotes += 1
        is_above = self.fast > self.slow
        return None if is_above is was_above or self.quotes < SLOW else is_above


#: By instrument. Of this process: a new owner of the partition warms up anew.
_averages: dict[str, _Averages] = {}
_lock = threading.Lock()  # guards _averages


@on(
    MarketDataEvent,
    name="trading.strategy",
    start="earliest",
    ordered=True,  # quotes of one instrument one after the other; several instruments at once
    valid_for_ms=10_000,  # an old quote is no reason to trade
)
def find_signal(event: MarketDataEvent) -> SignalEvent | None:
    """Go long where the fast average crosses the slow one upwards, short where downwards."""
    quote = event.data
    if not isinstance(quote, Quote) or not quote.bid_sz or not quote.ask_sz:
        return None
    mid = float(quote.bid_px + quote.ask_px) / 2
    with _lock:
        averages = _averages.get(event.key)
        if averages is None:
            _averages[event.key] = _Averages(mid, mid)
            return None
        upwards = averages.add(mid)
    if upwards is None:
        return None
    return SignalEvent(
        ts_event=event.ts_event,
        key=event.key,
        strategy="crossing",
        direction=Direction.LONG if upwards else Direction.SHORT,
        reference_price=quote.ask_px if upwards else quote.bid_px,
        quantity=quote.ask_sz if upwards else quote.bid_sz,
        reason=f"average of {FAST} crossed average of {SLOW}",
    )


def forget_prices() -> None:
    """Begins anew; for tests."""
    with _lock:
        _averages.clear()
