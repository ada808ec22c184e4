"""The instrument key: venue and symbol, both there."""

from __future__ import annotations

import pytest

from streamatiq.errors import InvalidEvent
from streamatiq.events import MarketDataEvent, instrument


@pytest.mark.parametrize(
    ("venue", "symbol"), [("BINANCE-SPOT", "BTCUSDT"), ("V", "BTC/USDT:USDT"), ("x", "y" * 126)]
)
def test_key_and_its_parts(quote: MarketDataEvent, venue: str, symbol: str) -> None:
    key = instrument(venue, symbol)
    assert key == f"{venue}:{symbol}"
    event = MarketDataEvent(ts_event=1, key=key, data=quote.data)
    assert (event.venue, event.symbol) == (venue, symbol)


@pytest.mark.parametrize(
    ("venue", "symbol"),
    [("", "S"), ("V", ""), ("V:W", "S"), ("V ", "S"), ("V", "A B"), ("V", "S\n"), ("x", "y" * 127)],
)
def test_what_makes_no_key(venue: str, symbol: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        instrument(venue, symbol)
    assert repr(venue) in str(caught.value)
    assert repr(symbol)[:80] in str(caught.value)


@pytest.mark.parametrize("key", ["", "V", "V:", ":S", "V:S ", "V:S\n", "V:" + "y" * 127, 7, None])
def test_a_trading_event_needs_a_key(quote: MarketDataEvent, key: object) -> None:
    with pytest.raises(InvalidEvent, match=r"field 'key'.*got"):
        MarketDataEvent(ts_event=1, key=key, data=quote.data)
    with pytest.raises(InvalidEvent, match="field 'key' is missing"):
        MarketDataEvent(ts_event=1, data=quote.data)
