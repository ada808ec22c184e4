"""Files and publishers for the tests of sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.sources.publishers import FakeLog

from streamatiq.events import MarketDataEvent
from streamatiq.sources import BadRow, Input, Read, Skipped, read_mapping

#: A mapping of all fields, of a file that has both kinds.
FULL_MAPPING = """\
version: 1
source: test-feed
kind: {column: type, quote: [quote, q], trade: [trade]}
key: {venue: venue, symbol: symbol}
time:
  ts_event: [{column: ts_event_ms, unit: ms}, {column: ts_recv_ns, unit: ns}]
  ts_recv: {column: ts_recv_ns, unit: ns}
quote: {bid_px: bid, bid_sz: bidsz, ask_px: ask, ask_sz: asksz, update_id: upd}
trade:
  price: px
  size: sz
  trade_id: tid
  aggressor: {column: maker, values: {true: sell, false: buy}}
"""


@pytest.fixture
def log() -> FakeLog:
    return FakeLog()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file, text or bytes, and returns its path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def read(write: Callable[..., Path]) -> Callable[..., list[Read]]:
    """All rows of one file, under a mapping given as YAML text."""

    def read(path: Path, mapping: str | None = None) -> list[Read]:
        meant = read_mapping(write("mapping.yaml", mapping)) if mapping else None
        with Input([path], meant) as data:
            return list(data)

    return read


@pytest.fixture
def outcomes(
    read: Callable[..., list[Read]],
) -> Callable[..., tuple[list[MarketDataEvent], dict[int, str], list[str]]]:
    """The events, the reasons of bad rows by number, and those of skipped rows."""

    def outcomes(
        path: Path, mapping: str | None = None
    ) -> tuple[list[MarketDataEvent], dict[int, str], list[str]]:
        rows = read(path, mapping)
        return (
            [row.outcome for row in rows if isinstance(row.outcome, MarketDataEvent)],
            {row.number: row.outcome.reason for row in rows if isinstance(row.outcome, BadRow)},
            [row.outcome.reason for row in rows if isinstance(row.outcome, Skipped)],
        )

    return outcomes


@pytest.fixture
def full_mapping() -> str:
    return FULL_MAPPING
