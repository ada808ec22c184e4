"""The detectors on a real recording: six instruments on three venues, 332,200 messages.

It is no part of the repository: the tests are skipped only where its folder is absent. The
variable TEST_RECORDING names another place.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from streamatiq.events import (
    BookDeltas,
    GapDetector,
    GapReport,
    LateDetector,
    Lateness,
    MarketDataEvent,
    SequenceStatus,
    StaleDetector,
    Trade,
)

ROOT = Path(__file__).resolve().parents[3]
FOLDER = Path(os.environ.get("TEST_RECORDING") or ROOT.parent / "shared/data")
MS = 1_000_000

pytestmark = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recording: the folder {FOLDER} is absent"),
    pytest.mark.soak,  # the short form is each detector's own file
]


class Row(NamedTuple):
    """What the detectors go by, of one row."""

    ts_recv_ns: int
    file_line: int
    key: str
    type: str
    ts_event_ms: int | None
    trade_id: int | None
    first: int | None
    last: int | None
    prev: int | None

    @property
    def feed(self) -> str:
        return f"{self.key} {self.type}"

    def event(self) -> MarketDataEvent:
        """The trade or book message, without prices and levels, which say nothing here."""
        if self.type == "trade":
            data: Trade | BookDeltas = Trade(price=1, size=1, trade_id=str(self.trade_id))
        else:
            data = BookDeltas(
                deltas=(),
                snapshot=self.type == "snapshot",
                first_update_id=self.first,
                last_update_id=self.last,
                prev_update_id=self.prev,
            )
        return MarketDataEvent(ts_event=1, ts_recv=self.ts_recv_ns, key=self.key, data=data)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Both files, merged in the order in which they were received."""
    return sorted([*_read("quotes_trades"), *_read("depth")], key=lambda row: row[:2])


def _read(kind: str) -> Iterator[Row]:
    file = FOLDER / f"binance_6instr_20240808_{kind}.parquet"
    with pq.ParquetFile(file) as parquet:
        there = parquet.schema_arrow.names

        def column(name: str) -> list[object]:
            return table[name].to_pylist() if name in there else [None] * len(table)

        plain = ["ts_recv_ns", "file_line", "venue", "symbol", "type", "ts_event_ms"]
        ids = ["trade_id", "first_update_id", "last_update_id", "prev_update_id"]
        table = parquet.read(columns=[name for name in plain + ids if name in there])
        for recv, line, venue, symbol, *others in zip(*map(column, plain + ids), strict=True):
            yield Row(recv, line, f"{venue}:{symbol}", *others)  # type: ignore[arg-type]  # as the file has them


def numbered(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.type != "quote"]


def reports(rows: list[Row]) -> list[GapReport]:
    detector = GapDetector()
    found = [detector.seen(row.event()) for row in rows]
    assert None not in found
    return [one for one in found if one is not None]


def test_nothing_is_missing_and_nothing_comes_twice(rows: list[Row]) -> None:
    """Trades by their ids; books of spot by first and last id, of futures by the id before."""
    found = Counter(one.status for one in reports(numbered(rows)))
    # Six instruments, each with trades, a book, and a snapshot of it.
    assert found == {
        SequenceStatus.FIRST: 12,
        SequenceStatus.SNAPSHOT: 6,
        SequenceStatus.NEXT: 55_270 + 69_784 - 12 - 6,
    }


@pytest.mark.parametrize(
    ("feed", "at"),
    [
        ("BINANCE-SPOT:BTCUSDT trade", 4_000),
        ("BINANCE-USDM:ETHUSDT trade", 14_000),
        ("BINANCE-SPOT:ETHUSDT depth", 1_000),  # first and last id
        ("BINANCE-USDM:BTCUSDT depth", 3_000),  # the id before, and numbers with holes
        ("BINANCE-CM:BTCUSD_PERP depth", 20_000),
    ],
)
def test_an_injected_gap_is_the_only_one_that_is_found(rows: list[Row], feed: str, at: int) -> None:
    of_feed = [row for row in numbered(rows) if row.key == feed.split()[0]]
    lost = [row for row in of_feed if row.feed == feed][at : at + 3]
    kept = [row for row in of_feed if row not in lost]
    found = [one for one in reports(kept) if one.missing]
    assert len(found) == 1
    if feed.endswith("trade"):
        assert list(found[0].missing) == [row.trade_id for row in lost]
    else:
        before = [row for row in of_feed if row.feed == feed][at - 1]
        assert before.last is not None
        assert lost[-1].last is not None
        assert found[0].missing == range(before.last + 1, lost[-1].last + 1)
    # And when they come after all, nothing is missing any more.
    late = reports([*kept, *lost])
    assert [one.status for one in late[-3:]] == [SequenceStatus.GAP_FILL] * 3


def test_a_feed_that_comes_twice_is_told_row_by_row(rows: list[Row]) -> None:
    trades = [row for row in rows if row.type == "trade"][:3_000]
    again = reports(trades + trades)[3_000:]
    assert {one.status for one in again} == {SequenceStatus.DUPLICATE}


def out_of_order(rows: list[Row], key: str) -> int:
    """Rows whose event time is below an earlier one of the key; rows without one do not count."""
    detector = LateDetector(out_of_orderness_ms=100)
    count = 0
    for row in rows:
        if row.ts_event_ms is not None:
            name = {"feed": row.feed, "instrument": row.key, "all": ""}[key]
            report = detector.seen_time(name, row.ts_event_ms * MS, row.ts_recv_ns)
            count += report.is_out_of_order
            assert report.lateness is Lateness.ON_TIME, "70 ms are the most"
            assert report.latency_ns is not None
            assert report.latency_ns < 0
    return count


@pytest.mark.parametrize(("key", "count"), [("feed", 0), ("instrument", 10_196), ("all", 84_180)])
def test_out_of_event_time_order(rows: list[Row], key: str, count: int) -> None:
    """Feeds are in order; they overtake each other within an instrument. And the receiver's clock,
    which runs behind the exchange's on every row, has no part in it."""
    assert len(rows) == 332_200
    assert out_of_order(rows, key) == count


def test_late_is_what_lies_below_the_bound(rows: list[Row]) -> None:
    detector = LateDetector(out_of_orderness_ms=20, allowed_lateness_ms=20)
    highest = dict.fromkeys({row.key for row in rows}, 0)
    expected: Counter[Lateness] = Counter()
    found: Counter[Lateness] = Counter()
    for row in rows:
        if row.ts_event_ms is None:
            continue
        behind_ms = highest[row.key] - row.ts_event_ms
        late = Lateness.LATE if behind_ms > 20 else Lateness.ON_TIME
        expected[Lateness.TOO_LATE if behind_ms > 40 else late] += 1
        highest[row.key] = max(highest[row.key], row.ts_event_ms)
        found[detector.seen_time(row.key, row.ts_event_ms * MS).lateness] += 1
    assert found == expected
    assert len(found) == 3


def test_silences_are_the_pauses_of_the_recording(rows: list[Row]) -> None:
    """Asked before each row, it finds every pause longer than the limit, once, where it ends."""
    limit_ms = 1_000
    detector = StaleDetector(limit_ms)
    told, ended = [], []
    last: dict[str, int] = {}
    pauses = []
    for row in rows:
        if row.type == "snapshot":
            continue
        told += detector.stale(row.ts_recv_ns)
        back = detector.seen_key(row.feed, row.ts_recv_ns)
        if back is not None:
            ended.append((back.key, back.silent_ns))
        if row.ts_recv_ns - last.get(row.feed, row.ts_recv_ns) > limit_ms * MS:
            pauses.append((row.feed, row.ts_recv_ns - last[row.feed]))
        last[row.feed] = row.ts_recv_ns
    assert pauses, "the limit is too long to prove anything"
    assert ended == pauses
    assert len(told) == len(pauses) + len(detector.stale_keys)
