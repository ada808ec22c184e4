"""From rows to events: exact values, and a reason for every row that is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamatiq.errors import IngestError
from streamatiq.events import MarketDataEvent, Side, decode_as, encode
from streamatiq.sources.cells import value_getter
from streamatiq.sources.mapping import Cell
from streamatiq.sources.problem import BadCell

Write = Callable[..., Path]
Outcomes = Callable[..., tuple[list[MarketDataEvent], dict[int, str], list[str]]]

QUOTE: dict[str, Any] = {
    "type": "quote",
    "venue": "V",
    "symbol": "S",
    "ts_recv_ns": 1723161253937000251,
    "bid": "1.10",
    "bidsz": "0",
    "ask": "1.2000",
    "asksz": "3",
}
TRADE: dict[str, Any] = {
    "type": "trade",
    "venue": "V",
    "symbol": "S",
    "ts_event_ms": 1723161255343,
    "ts_recv_ns": 1723161253937000252,
    "px": "-0.50",
    "sz": "0.001",
    "tid": 77,
    "maker": True,
}


def jsonl(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_quotes_and_trades_keep_every_digit(
    write: Write, outcomes: Outcomes, full_mapping: str
) -> None:
    path = write("a.jsonl", jsonl({**QUOTE, "upd": 9}, TRADE))
    (quote, trade), bad, skipped = outcomes(path, full_mapping)
    assert (bad, skipped) == ({}, [])
    # A quote without exchange time takes the receiver's.
    assert quote.ts_event == quote.ts_recv == 1723161253937000251
    assert (quote.key, quote.source) == ("V:S", "test-feed")
    assert json.loads(encode(quote))["data"] == {
        "kind": "quote",
        "bid_px": "1.10",
        "bid_sz": "0",
        "ask_px": "1.2000",
        "ask_sz": "3",
        "update_id": 9,
    }
    # The receiver's clock runs behind: that is no error.
    assert (trade.ts_event, trade.ts_recv) == (1723161255343_000_000, 1723161253937000252)
    assert trade.data.kind == "trade"
    assert str(trade.data.price) == "-0.50"
    assert (trade.data.trade_id, trade.data.aggressor) == ("77", Side.SELL)
    assert decode_as(MarketDataEvent, encode(trade)) == trade


@pytest.mark.parametrize(
    ("row", "changes", "reason"),
    [
        (QUOTE, {"bid": None}, "column 'bid' is empty, and a quote needs bid_px"),
        (QUOTE, {"bid": ""}, "column 'bid' is empty, and a quote needs bid_px"),
        (QUOTE, {"bid": "abc"}, "MarketDataEvent: field 'data.quote.bid_px': "),
        (QUOTE, {"bidsz": "-1"}, "MarketDataEvent: field 'data.quote.bid_sz': "),
        (QUOTE, {"bid": "1e999999999"}, "MarketDataEvent: field 'data.quote.bid_px': "),
        (QUOTE, {"bid": "NaN"}, "MarketDataEvent: field 'data.quote.bid_px': "),
        (QUOTE, {"bid": [1]}, "MarketDataEvent: field 'data.quote.bid_px': "),
        (QUOTE, {"upd": "x"}, "column 'upd' is no whole number: 'x'"),
        (QUOTE, {"ts_recv_ns": None}, "has no event time: 'ts_event_ms', 'ts_recv_ns' empty"),
        (QUOTE, {"ts_recv_ns": "x"}, "column 'ts_recv_ns' is no number of ns: 'x'"),
        (QUOTE, {"ts_recv_ns": -5}, "MarketDataEvent: field 'ts_event': "),
        (QUOTE, {"venue": None}, "column 'venue' is empty, and every event needs its venue"),
        (QUOTE, {"venue": "a:b"}, "venue 'a:b' (str) and symbol 'S' (str) make no instrument"),
        (QUOTE, {"symbol": True}, "column 'symbol' is no text: 'True' (bool)"),
        (QUOTE, {"type": None}, "column 'type' is empty, and should tell the kind of row"),
        (TRADE, {"sz": "0"}, "MarketDataEvent: field 'data.trade.size': "),
        (TRADE, {"maker": "?"}, "column 'maker' is '?', which the mapping does not know; it knows"),
    ],
)
def test_a_bad_row_says_why(
    write: Write,
    outcomes: Outcomes,
    full_mapping: str,
    row: dict[str, Any],
    changes: dict[str, Any],
    reason: str,
) -> None:
    path = write("a.jsonl", jsonl(row, {**row, **changes}, row))
    events, bad, _ = outcomes(path, full_mapping)
    assert len(events) == 2
    assert list(bad) == [2]
    assert bad[2].startswith(reason)


def test_rows_that_the_mapping_leaves_out_are_told_by_value(
    write: Write, outcomes: Outcomes, full_mapping: str
) -> None:
    path = write("a.jsonl", jsonl(QUOTE, {"type": "depth"}, {**QUOTE, "venue": "W"}, TRADE))
    events, bad, skipped = outcomes(path, full_mapping + "only: {venue: [V], type: [trade, q]}\n")
    assert (len(events), bad) == (1, {})
    assert skipped == ["type=quote", "venue=None", "venue=W"]
    _, _, skipped = outcomes(path, full_mapping)
    assert skipped == ["type=depth"]


def test_canonical_columns_need_no_mapping(write: Write, outcomes: Outcomes) -> None:
    header = "kind,key,ts_event,bid_px,bid_sz,ask_px,ask_sz,price,size,aggressor"
    path = write("a.csv", f"{header}\nquote,V:S,5,1,2,3,4,,,\ntrade,V:S,6,,,,,1.5,2,buy\n")
    (quote, trade), bad, _ = outcomes(path)
    assert bad == {}
    assert (quote.ts_event, quote.key, quote.ts_recv) == (5, "V:S", None)
    assert trade.data.kind == "trade"
    assert trade.data.aggressor is Side.BUY


def test_canonical_columns_of_one_kind(write: Write, outcomes: Outcomes) -> None:
    path = write("a.csv", "venue,symbol,ts_event,price,size\nV,S,6,1.5,2\n")
    (trade,), _, _ = outcomes(path)
    assert trade.data.kind == "trade"
    path = write("a.jsonl", '{"key": "V:S", "ts_event": 1, "price": 1.50, "size": 2}\n')
    (trade,), _, _ = outcomes(path)
    assert trade.data.kind == "trade"
    assert str(trade.data.price) == "1.50"


def test_a_key_that_is_no_instrument_is_a_bad_row(write: Write, outcomes: Outcomes) -> None:
    path = write("a.csv", "key,ts_event,price,size\nVS,6,1.5,2\n")
    assert outcomes(path)[1][2].startswith("MarketDataEvent: field 'key': ")


def test_columns_that_are_not_there_are_named(
    write: Write, outcomes: Outcomes, full_mapping: str
) -> None:
    path = write("a.csv", "time,px\n1,2\n")
    with pytest.raises(IngestError, match=r"has no column 'venue', and without --mapping FILE"):
        outcomes(path)
    with pytest.raises(IngestError, match=r"has no column 'type', which .*mapping\.yaml:3 asks"):
        outcomes(path, full_mapping)


def parquet_of_floats(tmp_path: Path) -> Path:
    path = tmp_path / "a.parquet"
    columns = {"key": ["V:S"] * 2, "t": [1, 2], "p": [0.1, float("nan")], "s": [1e-7, 2.0]}
    pq.write_table(pa.table(columns), path)
    return path


FLOATS = """\
version: 1
kind: trade
key: key
time: {ts_event: {column: t, unit: ns}}
trade: {price: p, size: s}
"""


def test_binary_floats_are_refused_unless_allowed(tmp_path: Path, outcomes: Outcomes) -> None:
    path = parquet_of_floats(tmp_path)
    with pytest.raises(IngestError, match=r"column 'p' holds binary floats.* allow_float: true"):
        outcomes(path, FLOATS)
    (trade,), bad, _ = outcomes(path, FLOATS + "allow_float: true\n")
    assert trade.data.kind == "trade"
    assert (trade.data.price, str(trade.data.size)) == (Decimal("0.1"), "1E-7")
    assert json.loads(encode(trade))["data"]["size"] == "0.0000001"
    assert bad == {2: "column 'p' is empty, and a trade needs price"}


def test_a_float_that_gets_through_is_refused() -> None:
    get = value_getter(Cell(column="p"), "price", allow_float=False)
    with pytest.raises(BadCell, match="column 'p' is a float"):
        get({"p": 0.1})


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20))
def test_any_writing_of_a_number_keeps_its_value(number: Decimal) -> None:
    get = value_getter(Cell(column="p"), "price", allow_float=False)
    for cell in (number, str(number), f"{number:e}"):
        text = get({"p": cell})
        if number and number.adjusted() >= -60:
            assert "E" not in text.upper()
        assert Decimal(text) == number
