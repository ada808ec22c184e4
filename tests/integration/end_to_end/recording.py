"""The recording: where it is, and its rows as they must come out of the log.

The data file is not part of the repository; only where its folder is absent are the tests skipped.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from streamatiq import MarketDataEvent, Quote

from .pipeline.rule import pressure

__all__ = ["REPOSITORY", "Tick", "recording", "signal_rows", "tick_of", "ticks"]

REPOSITORY = Path(__file__).resolve().parents[3]
#: The folder that holds it.
FOLDER = REPOSITORY.parent / "shared" / "data"
FILE = "binance_6instr_20240808_quotes_trades.parquet"


class Tick(NamedTuple):
    """What one row says; numbers as their exact text.

    Parameters:
      numbers: Of a quote bid price, bid size, ask price, ask size; of a trade price and size.
      number_id: The venue's number of the update or of the trade.
    """

    key: str
    ts_recv_ns: int | None
    numbers: tuple[str, ...]
    number_id: str


def recording() -> Path:
    """The whole file."""
    if not FOLDER.is_dir():
        pytest.skip("the recording is not here: ../shared/data, beside the repository, is absent")
    return FOLDER / FILE


def ticks(limit: int | None) -> list[Tick]:
    """What the first rows of the recording say, read without any code of ours."""
    with pq.ParquetFile(recording()) as file:
        rows = (row for batch in file.iter_batches() for row in batch.to_pylist())
        return [_tick(row) for row in islice(rows, limit)]


def _tick(row: dict[str, Any]) -> Tick:
    quote = row["type"] == "quote"
    columns = ("bid_px", "bid_sz", "ask_px", "ask_sz") if quote else ("price", "size")
    number_id = str(row["last_update_id" if quote else "trade_id"])
    numbers = tuple(row[column] for column in columns)
    return Tick(f"{row['venue']}:{row['symbol']}", row["ts_recv_ns"], numbers, number_id)


def tick_of(event: MarketDataEvent) -> Tick:
    """What an event says."""
    data = event.data
    if isinstance(data, Quote):
        numbers, number_id = (data.bid_px, data.bid_sz, data.ask_px, data.ask_sz), data.update_id
        return Tick(event.key, event.ts_recv, tuple(map(_text, numbers)), str(number_id))
    numbers_of_trade = tuple(map(_text, (data.price, data.size)))
    return Tick(event.key, event.ts_recv, numbers_of_trade, str(data.trade_id))


def signal_rows(rows: list[Tick]) -> list[int]:
    """Which rows must lead to a signal."""
    return [
        at
        for at, row in enumerate(rows)
        if len(row.numbers) == 4
        and pressure(Decimal(row.numbers[1]), Decimal(row.numbers[3]), int(row.number_id))
    ]


def _text(value: Decimal) -> str:
    return format(value, "f")
