"""Quotes and trades: what a feed may say is taken, what nobody can mean is refused."""

from __future__ import annotations

from typing import Any

import pytest

from streamatiq.errors import InvalidEvent
from streamatiq.events import MarketDataEvent, Quote, Side, Trade, decode, encode

LEVELS = {"bid_px": "10", "bid_sz": "1", "ask_px": "11", "ask_sz": "2"}


@pytest.mark.parametrize(
    "levels",
    [
        {"bid_px": "12"},
        {"bid_px": "11"},
        {"bid_sz": 0, "ask_sz": "0.000"},
        {"bid_px": "-37.63", "ask_px": "-37.60"},
    ],
    ids=["crossed", "locked", "empty sides", "negative prices"],
)
def test_quotes_that_feeds_do_send(levels: dict[str, Any]) -> None:
    event = MarketDataEvent(ts_event=1, key="V:S", data=Quote(**LEVELS | levels))
    assert decode(encode(event)) == event


@pytest.mark.parametrize(
    ("levels", "complaint"),
    [
        ({"bid_sz": "-1"}, "field 'bid_sz': give a Decimal of 0 or more.*got '-1'"),
        ({"bid_px": "NaN"}, "field 'bid_px': give a finite Decimal.*got 'NaN'"),
        ({"bid_px": None}, "field 'bid_px'.*got None"),
        ({"update_id": "5"}, "field 'update_id'.*got '5'"),
        ({"kind": "trade"}, "field 'kind'.*got 'trade'"),
        ({"depth": 5}, "field 'depth' is unknown"),
    ],
)
def test_quotes_that_are_refused(levels: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidEvent, match=complaint):
        Quote(**LEVELS | levels)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"size": "0"}, "field 'size': give a Decimal above 0.*got '0'"),
        ({"size": "-0.5"}, "field 'size'.*got '-0.5'"),
        ({"trade_id": 5}, r"field 'trade_id'.*got 5 \(int\)"),
        ({"aggressor": "both"}, "field 'aggressor'.*'buy' or 'sell', got 'both'"),
    ],
)
def test_trades_that_are_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidEvent, match=complaint):
        Trade(**{"price": "1", "size": "1"} | fields)


def test_a_trade() -> None:
    trade = Trade(price=-1, size="0.001", trade_id="77", aggressor="sell", trade_kind="MARKET")
    event = MarketDataEvent(ts_event=5, ts_recv=4, key="V:S", data=trade)
    assert event.data.kind == "trade"
    assert trade.aggressor is Side.SELL
    assert decode(encode(event)) == event


def test_the_kind_chooses_the_class() -> None:
    event = MarketDataEvent(ts_event=1, key="V:S", data={"kind": "quote", **LEVELS})
    assert isinstance(event.data, Quote)
    with pytest.raises(InvalidEvent, match=r"field 'data'.*'kind'"):
        MarketDataEvent(ts_event=1, key="V:S", data=LEVELS)


def test_the_receiver_s_clock_may_run_behind(quote: MarketDataEvent) -> None:
    assert quote.ts_recv is not None
    assert quote.ts_recv < quote.ts_event
    assert decode(encode(quote)) == quote
