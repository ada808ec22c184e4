"""StaleDetector: who is silent for too long, against a model that keeps every time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamatiq.errors import DetectorError
from streamatiq.events import MarketDataEvent, Quote, SignalEvent, Silence, StaleDetector

MS = 1_000_000


def quote(ts_recv: int | None, ts_event: int = 1) -> MarketDataEvent:
    data = Quote(bid_px=1, bid_sz=1, ask_px=2, ask_sz=1)
    return MarketDataEvent(ts_event=ts_event, ts_recv=ts_recv, key="V:S", data=data)


def test_a_silence_is_told_once_until_the_key_is_back() -> None:
    detector = StaleDetector(10)
    assert detector.seen_key("k", 0) is None
    assert detector.stale(10 * MS) == []  # as long as the limit, and not longer
    assert detector.stale(10 * MS + 1) == [Silence("k", 0, 10 * MS + 1)]
    assert detector.stale(50 * MS) == []
    assert detector.stale_keys == ("k",)
    assert detector.seen_key("k", 60 * MS) == Silence("k", 0, 60 * MS)
    assert detector.stale_keys == ()
    assert detector.stale(71 * MS) == [Silence("k", 60 * MS, 11 * MS)]


def test_an_event_counts_from_when_the_receiver_got_it() -> None:
    """Not from its event time, by another clock; nor from when our backlog let us see it."""
    detector = StaleDetector(10, clock_ns=lambda: 500 * MS)
    detector.seen(quote(ts_recv=100 * MS, ts_event=900 * MS))
    assert detector.stale(105 * MS) == []
    assert detector.stale(111 * MS) == [Silence("V:S quote", 100 * MS, 11 * MS)]
    assert detector.seen(quote(ts_recv=None)) == Silence("V:S quote", 100 * MS, 400 * MS)
    assert detector.seen(quote(None), at_ns=600 * MS) is None
    detector.seen(SignalEvent(ts_event=1, key="V:S", strategy="s", direction="long"))
    assert [one.key for one in detector.stale(10**18)] == ["V:S quote", "V:S signal"]


def test_a_feed_that_never_begins_is_silent_too() -> None:
    detector = StaleDetector(10)
    detector.expect("never", 0)
    detector.seen_key("known", 50 * MS)
    detector.expect("known", 55 * MS)  # says nothing new
    assert detector.stale(61 * MS) == [
        Silence("known", 50 * MS, 11 * MS),
        Silence("never", 0, 61 * MS),
    ]


def test_limits_by_key() -> None:
    detector = StaleDetector(lambda key: 1_000 if key.endswith(" trade") else 10)
    detector.seen_key("V:S trade", 0)
    detector.seen_key("V:S quote", 0)
    assert [one.key for one in detector.stale(11 * MS)] == ["V:S quote"]
    assert [one.key for one in detector.stale(1_001 * MS)] == ["V:S trade"]
    bad = StaleDetector(lambda key: 0)
    with pytest.raises(DetectorError, match=r"limit_ms of 'k' is 0 \(int\)"):
        bad.seen_key("k", 0)


def test_times_out_of_order_and_a_clock_that_goes_back() -> None:
    detector = StaleDetector(10)
    detector.seen_key("k", 50 * MS)
    detector.seen_key("k", 20 * MS)
    assert detector.stale(60 * MS) == []
    assert detector.stale(0) == []
    assert detector.stale(61 * MS) == [Silence("k", 50 * MS, 11 * MS)]
    assert detector.seen_key("k", 50 * MS) is None, "nothing new came"
    assert detector.stale_keys == ("k",)


def test_a_feed_that_was_switched_off() -> None:
    detector = StaleDetector(10)
    detector.seen_key("k", 0)
    detector.forget("k")
    detector.forget("never seen")
    assert detector.stale(10**18) == []


def test_memory_is_bounded() -> None:
    detector = StaleDetector(10, max_keys=2)
    for at, key in enumerate("abcab"):
        detector.seen_key(key, at)
    assert detector.displaced == 3
    assert [one.key for one in detector.stale(10**18)] == ["a", "b"]


@pytest.mark.parametrize("limit", [0, -1, True, 1.5])
def test_bad_limits_are_named(limit: int) -> None:
    with pytest.raises(DetectorError, match="limit_ms is"):
        StaleDetector(limit)


def test_time_in_which_nobody_listened_is_no_silence() -> None:
    old = StaleDetector(10, clock_ns=lambda: 8 * MS)
    old.seen_key("told", -20 * MS)
    old.stale()
    old.seen_key("quiet", 0)
    new = StaleDetector(10)
    new.restore(old.state(), 1_000 * MS)
    assert new.stale_keys == ("told",)
    assert new.stale(1_002 * MS) == []
    assert new.stale(1_003 * MS) == [Silence("quiet", 992 * MS, 11 * MS)]
    with pytest.raises(DetectorError, match="field 'detector'"):
        new.restore(b'{"detector":"gaps","v":1,"keys":[]}')
    assert new.stale_keys == ("quiet", "told")


STEPS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "ask", "save"]), st.integers(0, 40)), max_size=60
)


@settings(derandomize=True, deadline=None, database=None)
@given(STEPS)
def test_like_a_model_that_keeps_every_time(steps: list[tuple[str, int]]) -> None:
    limits = {"a": 5, "b": 10, "c": 50}
    detector = StaleDetector(limits.__getitem__)
    times: dict[str, list[int]] = {}
    told: set[str] = set()
    now = 0
    for what, pause in steps:
        now += pause
        if what == "ask":
            over = {key for key, all_of in times.items() if now - max(all_of) > limits[key]}
            found = detector.stale(now * MS)
            assert [one.key for one in found] == sorted(over - told)
            assert all(one.silent_ns == (now - max(times[one.key])) * MS for one in found)
            told |= over
        elif what == "save":
            state = detector.state(now * MS)
            detector = StaleDetector(limits.__getitem__)
            detector.restore(state, now * MS)
        else:
            at = now - 3 * (pause % 2)  # now and then one that was on the way for longer
            back = detector.seen_key(what, at * MS)
            before = max(times.get(what, [at]))
            if what in told and at > before:
                assert back == Silence(what, before * MS, (at - before) * MS)
                told.discard(what)
            else:
                assert back is None
            times.setdefault(what, []).append(at)
        assert detector.stale_keys == tuple(sorted(told))
