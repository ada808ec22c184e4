"""LateDetector: watermarks, against a model that keeps every time; and times as they are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamatiq.errors import DetectorError
from streamatiq.events import (
    LateDetector,
    Lateness,
    LatenessReport,
    MarketDataEvent,
    OrderEvent,
    Trade,
)

MS = 1_000_000
L = Lateness


def trade(ts_event: int, ts_recv: int | None = None) -> MarketDataEvent:
    data = Trade(price=1, size=1)
    return MarketDataEvent(ts_event=ts_event, ts_recv=ts_recv, key="V:S", data=data)


def test_on_time_late_and_too_late() -> None:
    detector = LateDetector(out_of_orderness_ms=10, allowed_lateness_ms=20)
    at = [100, 130, 120, 119, 100, 99]
    reports = [detector.seen_time("k", ms * MS) for ms in at]
    assert [one.lateness for one in reports] == [
        L.ON_TIME,
        L.ON_TIME,
        L.ON_TIME,
        L.LATE,
        L.LATE,
        L.TOO_LATE,
    ]
    assert [one.behind_ns for one in reports] == [
        None,
        *(ms * MS for ms in (-30, 10, 11, 30, 31)),
    ]
    assert [one.is_out_of_order for one in reports] == [False, False, True, True, True, True]


def test_the_watermark_follows_the_highest_event_time() -> None:
    detector = LateDetector(out_of_orderness_ms=10)
    assert detector.watermark() is detector.watermark("k") is None
    detector.seen_time("k", 100 * MS)
    detector.seen_time("k", 95 * MS)
    assert detector.watermark("k") == 90 * MS - 1
    assert detector.seen_time("k", 90 * MS).lateness is L.ON_TIME
    assert detector.seen_time("k", 90 * MS - 1).lateness is L.TOO_LATE, "at the watermark"
    detector.seen_time("slow", 50 * MS)
    assert detector.watermark() == 40 * MS - 1, "of all of them"
    detector.forget("slow")
    assert detector.watermark() == 90 * MS - 1


def test_a_negative_latency_is_told_as_it_is_and_makes_nothing_late() -> None:
    """The receiver's clock runs 1.27 s behind the exchange's."""
    detector = LateDetector()
    for ms in (1_000, 1_010):
        report = detector.seen(trade(ms * MS + 1_270 * MS, ts_recv=ms * MS))
        assert report.latency_ns == -1_270 * MS
        assert report.lateness is L.ON_TIME
    assert detector.seen(trade(5_000 * MS)).latency_ns is None
    assert detector.seen(trade(4_000 * MS, 9_000 * MS)) == LatenessReport(
        "V:S trade", L.TOO_LATE, 1_000 * MS, 5_000 * MS
    )


def test_a_time_that_cannot_be_true_does_not_make_all_others_late() -> None:
    detector = LateDetector(max_ahead_ms=2_000)
    detector.seen(trade(1_270 * MS, ts_recv=0))
    assert detector.seen(trade(2_001 * MS, ts_recv=0)) == LatenessReport(
        "V:S trade", L.FUTURE, -731 * MS, -2_001 * MS
    )
    assert detector.seen(trade(1_271 * MS, ts_recv=1 * MS)).lateness is L.ON_TIME
    assert detector.seen(trade(2_000 * MS, ts_recv=0)).lateness is L.ON_TIME


def test_one_watermark_for_feeds_that_overtake_each_other_if_asked_for() -> None:
    detector = LateDetector()
    order = OrderEvent(
        ts_event=9, key="V:S", client_order_id="c", side="buy", order_type="market", quantity=1
    )
    assert detector.seen(order).key == "V:S order"
    assert not detector.seen(trade(5)).is_out_of_order
    assert not detector.seen(order, key="V:S").is_out_of_order
    assert detector.seen(trade(5), key="V:S").is_out_of_order


def test_memory_is_bounded_and_parameters_are_checked() -> None:
    detector = LateDetector(max_keys=2)
    for key in "abcb":
        detector.seen_time(key, 5)
    assert detector.displaced == 1
    assert detector.seen_time("a", 1).behind_ns is None
    assert detector.seen_time("b", 1).behind_ns == 4
    for name, bad in {
        "out_of_orderness_ms": -1,
        "allowed_lateness_ms": -1,
        "max_ahead_ms": -1,
        "max_keys": 0,
    }.items():
        with pytest.raises(DetectorError, match=f"{name} is {bad}"):
            LateDetector(**{name: bad})


def test_bytes_that_are_no_state_change_nothing() -> None:
    detector = LateDetector()
    detector.seen_time("k", 7)
    with pytest.raises(DetectorError, match=r"keys\.0\.highest_ns"):
        detector.restore(b'{"detector":"late","v":1,"keys":[{"key":"k","highest_ns":1.5}]}')
    assert detector.seen_time("k", 1).behind_ns == 6


@settings(derandomize=True, deadline=None, database=None)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "save"]), st.integers(0, 100)), max_size=60),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_like_a_model_that_keeps_every_time(
    steps: list[tuple[str, int]], bound: int, allowed: int
) -> None:
    def make() -> LateDetector:
        return LateDetector(out_of_orderness_ms=bound, allowed_lateness_ms=allowed)

    detector = make()
    times: dict[str, list[int]] = {}
    for key, at in steps:
        if key == "save":
            state = detector.state()
            detector = make()
            detector.restore(state)
            assert detector.state() == state
            continue
        before = times.setdefault(key, [])
        report = detector.seen_time(key, at * MS)
        behind = max(before) - at if before else 0
        assert report.behind_ns == (behind * MS if before else None)
        expected = L.ON_TIME if behind <= bound else L.LATE
        assert report.lateness is (L.TOO_LATE if behind > bound + allowed else expected)
        before.append(at)
        assert detector.watermark(key) == (max(before) - bound) * MS - 1
        assert detector.watermark() == (min(map(max, times.values())) - bound) * MS - 1
