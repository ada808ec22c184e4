"""The recording at ten times its pace: each event when it is due, and no drift.

In `make test` a cut, whose times are looked at generously, since other tests run beside it; the
whole file, with the figures that are promised, in `make soak`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from tests.conftest import FIGURE
from tests.integration.logs.harness import Bench

from streamatiq import MarketDataEvent, ReplayReport, replay
from streamatiq.sources import Ingest, Input, read_mapping

REPOSITORY = Path(__file__).resolve().parents[3]
FOLDER = Path(os.environ.get("TEST_RECORDING") or REPOSITORY.parent / "shared/data")
FILE = FOLDER / "binance_6instr_20240808_quotes_trades.parquet"
MAPPING = REPOSITORY / "examples/ingest/binance_recording.yaml"
#: Rows of the cut.
CUT = 8_000
SPEED = 10.0


pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no recording: the folder {FOLDER} is absent"
)


def ingested(bench: Bench, limit: int | None) -> None:
    with Input([FILE], read_mapping(MAPPING)) as data:
        Ingest(bench.logs.publish_many).run(islice(data, limit))


def paced(
    bench: Bench, replay_id: str, keys: list[str] | None = None
) -> tuple[ReplayReport, float]:
    """Replays at ten times the pace into a namespace; the report, and seconds it took."""
    run = replay(
        MarketDataEvent,
        broker=bench.broker,
        time_basis="event",
        speed=SPEED,
        target="isolated",
        replay_id=replay_id,
    )
    began = time.monotonic()
    return run.run(), time.monotonic() - began


def told(report: ReplayReport, took_s: float) -> str:
    late = ", ".join(f"{name} {value:.3f}" for name, value in report.late_ms.items())
    recorded_s = (report.last_ns - report.first_ns) / 1e9
    return (
        f"replay at {SPEED:g}x: {report.count:,} events, {recorded_s:.1f} s in {took_s:.2f} s; "
        f"late {late} ms; last {report.drift_ms:.3f} ms"
    )


def test_a_cut_at_ten_times_its_pace(
    bench: Bench, record_property: Callable[[str, object], None]
) -> None:
    ingested(bench, CUT)
    flat_out = [
        replay(MarketDataEvent, broker=bench.broker, time_basis="event").run() for _ in range(2)
    ]
    report, took_s = paced(bench, "cut")
    record_property(FIGURE, told(report, took_s))
    assert report.count == CUT
    assert {one.digest for one in flat_out} == {report.digest}
    items = list(replay(MarketDataEvent, broker=bench.broker, time_basis="event"))
    orders = [one.order for one in items]
    assert orders == sorted(orders)
    # Ties in time are the rule in this recording; the place makes each order different.
    assert len({one.time_ns for one in orders}) < len(set(orders)) == CUT
    assert took_s >= (report.last_ns - report.first_ns) / 1e9 / SPEED


@pytest.mark.soak
def test_the_whole_recording_at_ten_times_its_pace(
    bench: Bench, record_property: Callable[[str, object], None]
) -> None:
    ingested(bench, None)
    began = time.monotonic()
    report = replay(MarketDataEvent, broker=bench.broker, time_basis="event", speed=SPEED).run()
    took_s = time.monotonic() - began
    record_property(FIGURE, f"iterated: {told(report, took_s)}")
    # Into a namespace: a burst of the recording is 58,000 events/s at this speed, more than one
    # server stores; it is late there, and caught up with.
    stored, stored_took_s = paced(bench, "whole")
    record_property(FIGURE, f"isolated: {told(stored, stored_took_s)}")
    assert report.count == stored.count == 262_416
    flat_out = replay(
        MarketDataEvent, broker=bench.broker, time_basis="event", target="isolated"
    ).run()
    assert flat_out.digest == report.digest == stored.digest
    # No drift: the last event is as punctual as the others, 35 s later.
    ideal_s = (report.last_ns - report.first_ns) / 1e9 / SPEED
    assert stored.drift_ms < 5
    assert abs(stored_took_s - ideal_s) < 0.5
    assert report.drift_ms < 5
    assert abs(took_s - ideal_s) < 0.5
    assert report.late_ms["p99"] < 5
