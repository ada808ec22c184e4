"""The recorded pace against an absolute clock, in fake time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.sources.publishers import FakeLog, Stored

from streamatiq.errors import IngestError
from streamatiq.events import Event, MarketDataEvent, Trade
from streamatiq.sources import Ingest, IngestReport, Pacer, Read

MS = 1_000_000


class FakeTime:
    """A clock that moves when someone waits, or when work takes time."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.waits: list[float] = []

    def clock_s(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.waits.append(seconds)
        self.now_s += seconds


def trades(times_ns: Iterable[int]) -> list[Read]:
    return [
        Read(
            ns,
            0,
            number,
            MarketDataEvent(ts_event=1, key="V:S", data=Trade(price=number, size=1)),
        )
        for number, ns in enumerate(times_ns, 1)
    ]


def paced(
    times_ns: Sequence[int], speed: float, *, work_s: float = 0.0
) -> tuple[list[tuple[float, int]], FakeTime, IngestReport]:
    """When how many events were published, in seconds since the start."""
    time = FakeTime()
    sent: list[tuple[float, int]] = []

    def publish(events: Sequence[Event], /) -> list[Stored]:
        time.now_s += work_s
        sent.append((round(time.now_s - 1000, 6), len(events)))
        return [Stored(duplicate=False)] * len(events)

    run = Ingest(publish, pacer=Pacer(speed, time.clock_s), wait=time.wait, clock_s=time.clock_s)
    return sent, time, run.run(trades(times_ns))


def test_what_is_due_together_goes_together() -> None:
    sent, _, report = paced([0, 0, 100 * MS, 100 * MS, 250 * MS], speed=1)
    assert sent == [(0.0, 2), (0.1, 2), (0.25, 1)]
    assert report.most_behind_s == pytest.approx(0, abs=1e-9)


def test_the_factor_divides_the_waits() -> None:
    sent, _, _ = paced([0, 100 * MS, 200 * MS], speed=10)
    assert sent == [(0.0, 1), (0.01, 1), (0.02, 1)]


def test_time_spent_on_publishing_adds_no_drift() -> None:
    sent, _, report = paced([n * 100 * MS for n in range(100)], speed=1, work_s=0.03)
    assert sent[-1] == (9.93, 1)
    assert report.most_behind_s == pytest.approx(0.03)


def test_who_falls_behind_catches_up_in_batches() -> None:
    sent, _, report = paced([n * 10 * MS for n in range(1000)], speed=1, work_s=0.1)
    assert sum(count for _, count in sent) == 1000
    assert sent[-1][0] == pytest.approx(10.0, abs=0.2)
    assert 0.1 <= (report.most_behind_s or 0) <= 0.3


def test_a_long_gap_is_waited_in_pieces() -> None:
    _, time, _ = paced([0, 3600 * 1000 * MS], speed=1)
    assert max(time.waits) <= 0.5
    assert sum(time.waits) == pytest.approx(3600)


@given(
    st.lists(st.integers(min_value=0, max_value=10**10), min_size=1, max_size=60),
    st.sampled_from([0.5, 1.0, 7.0, 1000.0]),
)
def test_any_order_of_times_keeps_the_order_of_rows_and_the_latest_deadline(
    times_ns: list[int], speed: float
) -> None:
    sent, _, report = paced(times_ns, speed)
    assert report.published == len(times_ns) == report.accounted
    # The run ends when the latest event is due, whatever came after it.
    last_s = max(0, max(times_ns) - times_ns[0]) / speed / 1e9
    assert sent[-1][0] == pytest.approx(last_s, abs=1e-5)


def test_stopping_inside_a_gap_leaves_the_next_event_unsent() -> None:
    time = FakeTime()
    log = FakeLog()
    run = Ingest(
        log.publish,
        pacer=Pacer(1, time.clock_s),
        stopped=lambda: time.now_s > 1001,
        wait=time.wait,
        clock_s=time.clock_s,
    )
    report = run.run(trades([0, 0, 10**12, 10**12]))
    assert (report.rows, report.published, report.unsent) == (3, 2, 1)
    assert report.interrupted
    assert report.accounted == report.rows
    assert [len(batch) for batch in log.batches] == [2]


@pytest.mark.parametrize("speed", [0, -1, float("inf"), float("nan")])
def test_a_speed_that_is_none_is_refused(speed: float) -> None:
    with pytest.raises(IngestError, match="it must be 'max' or a number above 0"):
        Pacer(speed)


def test_times_of_an_epoch_keep_their_nanoseconds(tmp_path: Path) -> None:
    time = FakeTime()
    pacer = Pacer(1, time.clock_s)
    base = 1723161253937000251
    pacer.wait_s(base)
    assert pacer.wait_s(base + 200) == pytest.approx(200e-9, rel=1e-3)
