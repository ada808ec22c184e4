"""Bars: prices that fit each other, an interval with two ends."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from streamatiq.errors import EventDecodeError, InvalidEvent
from streamatiq.events import Bar, MarketDataEvent, decode, encode

MINUTE = 60_000_000_000
BAR = {
    "ts_start": 1_723_161_240_000_000_000,
    "interval_ns": MINUTE,
    "open": "10.0",
    "high": "12",
    "low": "9.50",
    "close": "11",
    "volume": "3.25",
}


def test_a_bar_on_the_wire() -> None:
    bar = Bar(**BAR, vwap="10.777", trade_count=4)
    event = MarketDataEvent(ts_event=bar.ts_end, key="V:S", data=bar)
    assert bar.ts_end == BAR["ts_start"] + MINUTE
    assert encode(event).endswith(
        b'"data":{"kind":"bar","ts_start":1723161240000000000,"interval_ns":60000000000,'
        b'"open":"10.0","high":"12","low":"9.50","close":"11","volume":"3.25","vwap":"10.777",'
        b'"trade_count":4}}'
    )
    assert decode(encode(event)) == event


@pytest.mark.parametrize(
    "fields",
    [
        {"open": 9, "high": 9, "low": 9, "close": 9, "volume": 0},
        {"open": "9.5", "close": "12.00"},
        {"open": "12", "close": "9.5"},
        {"open": -3, "high": -1, "low": -4, "close": "-1.0"},
        {"vwap": "12.01"},
    ],
    ids=["flat", "up from low to high", "down", "negative prices", "a venue's rounding"],
)
def test_bars_that_feeds_do_send(fields: dict[str, Any]) -> None:
    event = MarketDataEvent(ts_event=1, key="V:S", data=Bar(**BAR | fields))
    assert decode(encode(event)) == event


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"open": "9.49"}, r"field 'open': 9\.49 is not between low 9\.50 and high 12 of its bar"),
        ({"open": "12.1"}, r"field 'open': 12\.1 is not between"),
        ({"close": "12.1"}, r"field 'close': 12\.1 is not between low 9\.50 and high 12"),
        ({"close": "9"}, r"field 'close': 9 is not between"),
        ({"low": "13"}, r"field 'open': 10\.0 is not between low 13 and high 12"),
        ({"interval_ns": 0}, "field 'interval_ns'.*greater than or equal to 1, got 0"),
        ({"interval_ns": 1.5}, "field 'interval_ns'.*got 1.5"),
        ({"interval_ns": "1m"}, "field 'interval_ns'.*got '1m'"),
        ({"ts_start": -1}, "field 'ts_start'.*got -1"),
        ({"volume": "-1"}, "field 'volume'.*0 or more.*got '-1'"),
        ({"open": 1.5}, r"field 'open'.*got 1.5 \(float\)"),
        ({"trade_count": -1}, "field 'trade_count'.*got -1"),
        ({"kind": "quote"}, "field 'kind'.*'bar', got 'quote'"),
    ],
)
def test_bars_that_are_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidEvent, match=complaint):
        Bar(**BAR | fields)


def test_a_stored_bar_is_checked_too() -> None:
    event = MarketDataEvent(ts_event=1, key="V:S", data=Bar(**BAR))
    assert isinstance(event.data, Bar)
    assert event.data.high == Decimal(12)
    with pytest.raises(EventDecodeError, match=r"field 'data\.bar'.*11 is not between"):
        decode(encode(event).replace(b'"high":"12"', b'"high":"10.5"'))
