"""The real recording converts without a bad row, with every digit.

It is no part of the repository: the test is skipped only where its folder is absent. The variable
TEST_RECORDING names another place (settings refuse unknown variables that begin with our name).
"""

from __future__ import annotations

import os
from collections import Counter
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from streamatiq.events import MarketDataEvent, decode_as, encode
from streamatiq.sources import Ingest, Input, read_mapping

ROOT = Path(__file__).resolve().parents[3]
MAPPING = ROOT / "examples/ingest/binance_recording.yaml"
FOLDER = Path(os.environ.get("TEST_RECORDING") or ROOT.parent / "shared/data")
FILE = FOLDER / "binance_6instr_20240808_quotes_trades.parquet"

#: Rows of the normal tests.
CUT = 20_000

needs_recording = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no recording: the folder {FOLDER} is absent"
)


@needs_recording
def test_a_cut_converts_row_by_row() -> None:
    raw = next(pq.ParquetFile(FILE).iter_batches(CUT)).to_pylist()
    with Input([FILE], read_mapping(MAPPING)) as data:
        read = list(islice(data, CUT))
    assert len(raw) == len(read) == CUT
    for row, (recorded_ns, _, number, outcome) in zip(raw, read, strict=True):
        assert isinstance(outcome, MarketDataEvent), outcome
        event = decode_as(MarketDataEvent, encode(outcome))
        assert raw[number - 1] is row
        assert recorded_ns == event.ts_recv == row["ts_recv_ns"]
        exchange_ms = row["ts_event_ms"]
        assert event.ts_event == (recorded_ns if exchange_ms is None else exchange_ms * 10**6)
        assert event.key == f"{row['venue']}:{row['symbol']}"
        assert event.data.kind == row["type"]
        if event.data.kind == "quote":
            told = [event.data.bid_px, event.data.bid_sz, event.data.ask_px, event.data.ask_sz]
            assert [format(one, "f") for one in told] == [
                row[name] for name in ("bid_px", "bid_sz", "ask_px", "ask_sz")
            ]
            assert event.data.update_id == row["last_update_id"]
        else:
            assert format(event.data.price, "f") == row["price"]
            assert format(event.data.size, "f") == row["size"]
            assert event.data.trade_id == str(row["trade_id"])
            assert event.data.aggressor == ("sell" if row["buyer_is_maker"] else "buy")
            assert event.data.trade_kind == row["trade_kind"]


@needs_recording
@pytest.mark.soak
def test_the_whole_recording_converts() -> None:
    with Input([FILE], read_mapping(MAPPING)) as data:
        report = Ingest(None).run(data)
    assert report.kinds == Counter(quote=207_146, trade=55_270)
    assert (report.checked, report.bad, report.skipped.total()) == (262_416, 0, 0)
