"""GapDetector: which numbers are missing, against a model that remembers every number."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamatiq.errors import DetectorError
from streamatiq.events import (
    BookDeltas,
    GapDetector,
    GapReport,
    MarketDataEvent,
    Quote,
    SequenceStatus,
    Trade,
)

S = SequenceStatus


def trade(trade_id: str | None, key: str = "V:S") -> MarketDataEvent:
    return MarketDataEvent(ts_event=1, key=key, data=Trade(price=1, size=1, trade_id=trade_id))


def update(first: int | None, last: int | None, prev: int | None = None, **more: Any) -> BookDeltas:
    return BookDeltas(
        deltas=(), first_update_id=first, last_update_id=last, prev_update_id=prev, **more
    )


def snapshot(last: int | None) -> BookDeltas:
    return update(None, last, snapshot=True)


def told(detector: GapDetector, *numbers: int) -> list[tuple[SequenceStatus, list[int]]]:
    reports = [detector.seen_number("k", number) for number in numbers]
    return [(one.status, list(one.missing)) for one in reports]


def test_exactly_the_missing_numbers_are_told_and_each_once() -> None:
    detector = GapDetector()
    assert told(detector, 7, 8, 12, 13) == [
        (S.FIRST, []),
        (S.NEXT, []),
        (S.GAP, [9, 10, 11]),
        (S.NEXT, []),
    ]
    assert detector.open_gaps("k") == (range(9, 12),)


def test_what_comes_after_all_fills_the_gap_and_what_comes_twice_does_not() -> None:
    detector = GapDetector()
    told(detector, 1, 5)
    assert detector.seen_number("k", 3) == GapReport("k", S.GAP_FILL, filled=(range(3, 4),))
    assert detector.open_gaps("k") == (range(2, 3), range(4, 5))
    assert told(detector, 3, 5, 1, 0) == [(S.DUPLICATE, [])] * 4
    assert told(detector, 2, 4) == [(S.GAP_FILL, [])] * 2
    assert detector.open_gaps("k") == ()


def test_below_all_recent_numbers_a_new_sequence_begins() -> None:
    detector = GapDetector(reset_after=10)
    told(detector, *range(100, 120), 125)
    assert told(detector, 122, 112, 110) == [(S.GAP_FILL, []), (S.DUPLICATE, []), (S.DUPLICATE, [])]
    state = detector.state()
    for _ in range(2):
        assert told(detector, 99) == [(S.RESET, [])]
        assert detector.open_gaps("k") == ()
        assert told(detector, 100, 101) == [(S.NEXT, [])] * 2
        detector.restore(state)


def test_a_young_sequence_does_not_begin_anew_by_itself() -> None:
    detector = GapDetector(reset_after=10)
    told(detector, *range(1000, 1006))
    assert told(detector, 1, 2, 3) == [(S.DUPLICATE, [])] * 3


def test_a_new_session_is_told_by_its_caller() -> None:
    detector = GapDetector()
    told(detector, 50, 60)
    detector.forget("k")
    assert told(detector, 1, 2) == [(S.FIRST, []), (S.NEXT, [])]


def test_keys_do_not_mix_and_kinds_of_one_instrument_neither() -> None:
    detector = GapDetector()
    for key in ("V:S", "W:S"):
        first = detector.seen(trade("5", key))
        assert first is not None
        assert (first.key, first.status) == (f"{key} trade", S.FIRST)
    book = detector.seen(MarketDataEvent(ts_event=1, key="V:S", data=update(1, 2)))
    assert book is not None
    assert (book.key, book.status) == ("V:S book_deltas", S.FIRST)
    found = detector.seen(trade("7"))
    assert found is not None
    assert list(found.missing) == [6]


@pytest.mark.parametrize("trade_id", [None, "", "a7", "-1", "1.5", "٣", "9" * 39])
def test_a_trade_without_a_number_says_nothing(trade_id: str | None) -> None:
    assert GapDetector().seen(trade(trade_id)) is None


def test_quotes_and_books_without_numbers_say_nothing() -> None:
    quote = Quote(bid_px=1, bid_sz=1, ask_px=2, ask_sz=1, update_id=7)
    assert GapDetector().seen(MarketDataEvent(ts_event=1, key="V:S", data=quote)) is None
    assert GapDetector().seen_update("k", update(None, None)) is None


def test_books_whose_numbers_have_holes_name_the_message_before() -> None:
    detector = GapDetector()
    for message in (update(10, 14, 7), update(17, 19, 14)):
        report = detector.seen_update("k", message)
        assert report is not None
        assert report.missing == range(0)
    report = detector.seen_update("k", update(30, 31, 25))
    assert report == GapReport("k", S.GAP, range(20, 26))
    # The lost message comes after all; the hole before it counts as filled with it.
    report = detector.seen_update("k", update(22, 25, 19))
    assert report == GapReport("k", S.GAP_FILL, filled=(range(20, 26),))
    assert detector.open_gaps("k") == ()


def test_a_snapshot_needs_nothing_before_it() -> None:
    detector = GapDetector()
    detector.seen_update("k", update(1, 3))
    detector.seen_update("k", update(7, 8))
    detector.seen_update("k", update(11, 12))
    # Older than what came before it, as the answer to a question may be.
    report = detector.seen_update("k", snapshot(5))
    assert report == GapReport("k", S.SNAPSHOT, filled=(range(4, 6),))
    assert detector.open_gaps("k") == (range(6, 7), range(9, 11))
    report = detector.seen_update("k", snapshot(20))
    assert report == GapReport("k", S.SNAPSHOT, filled=(range(6, 7), range(9, 11)))
    report = detector.seen_update("k", update(19, 23))
    assert report == GapReport("k", S.NEXT)


def test_a_snapshot_of_a_book_that_began_anew() -> None:
    detector = GapDetector(reset_after=2)
    for number in (1000, 1001, 1003):
        detector.seen_update("k", update(number, number))
    detector.seen_update("k", snapshot(3))
    assert detector.open_gaps("k") == ()
    assert detector.seen_update("k", update(4, 5)) == GapReport("k", S.NEXT)
    assert detector.seen_update("k", snapshot(None)) == GapReport("k", S.SNAPSHOT)
    assert detector.seen_update("k", update(70, 71)) == GapReport("k", S.FIRST)


def test_memory_is_bounded() -> None:
    detector = GapDetector(max_keys=2, max_gaps=2)
    for number in (1, 3, 5, 7):
        detector.seen_number("a", number)
    assert detector.open_gaps("a") == (range(4, 5), range(6, 7))
    assert detector.given_up == 1
    detector.seen_number("b", 1)
    detector.seen_number("a", 8)
    detector.seen_number("c", 1)  # b was silent longest
    assert detector.displaced == 1
    assert detector.seen_number("a", 9).status is S.NEXT
    assert detector.seen_number("b", 5).status is S.FIRST
    # A gap is remembered by its ends, however long it is.
    assert len(detector.seen_number("a", 10**18).missing) > 10**17


@pytest.mark.parametrize("name", ["reset_after", "max_keys", "max_gaps"])
def test_bad_parameters_are_named(name: str) -> None:
    with pytest.raises(DetectorError, match=rf"{name} is 0 \(int\); give an int of 1 or more"):
        GapDetector(**{name: 0})


def test_several_threads_find_every_number_once() -> None:
    detector = GapDetector(max_gaps=10_000)
    detector.seen_number("k", 0)
    reports: list[GapReport] = []

    def take(offset: int) -> None:
        for number in range(1 + offset, 8001, 4):
            reports.append(detector.seen_number("k", number))

    threads = [threading.Thread(target=take, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert detector.open_gaps("k") == ()
    assert all(report.status is not S.DUPLICATE for report in reports)
    missed = sum(len(report.missing) for report in reports)
    assert missed == sum(len(part) for report in reports for part in report.filled)


# -- against a model -----------------------------------------------------------------------------

MESSAGES = st.one_of(
    st.builds(lambda number: (number, number), st.integers(0, 60)),
    st.builds(lambda first, more: (first, first + more), st.integers(0, 60), st.integers(0, 6)),
)


class Model:
    """Every number that was ever covered."""

    def __init__(self) -> None:
        self.covered: set[int] = set()
        self.highest: int | None = None

    def take(self, first: int, last: int) -> tuple[set[int], set[int]]:
        """What is missing and what is filled with a message."""
        if self.highest is None:
            self.covered = set(range(last + 1))  # before the first one nothing is missed
            self.highest = last
            return set(), set()
        cover = set(range(first, last + 1))
        filled = cover & self.open
        missing = set(range(self.highest + 1, first))
        self.covered |= cover
        self.highest = max(self.highest, last)
        return missing, filled

    @property
    def open(self) -> set[int]:
        assert self.highest is not None
        return set(range(self.highest + 1)) - self.covered


def numbers(ranges: tuple[range, ...]) -> set[int]:
    found = [number for one in ranges for number in one]
    assert len(found) == len(set(found)), "gaps overlap"
    return set(found)


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.tuples(MESSAGES, st.sampled_from(["ids", "prev", "save", "snapshot"]))))
def test_like_a_model_that_remembers_every_number(
    messages: list[tuple[tuple[int, int], str]],
) -> None:
    detector, model = GapDetector(), Model()
    for (first, last), how in messages:
        if how == "save":
            state = detector.state()
            detector = GapDetector()
            detector.restore(state)
            assert detector.state() == state
        if how == "snapshot":
            open_before = set() if model.highest is None else model.open
            report = detector.seen_update("k", snapshot(last))
            assert report is not None
            assert report.status is S.SNAPSHOT
            assert numbers(report.filled) == {one for one in open_before if one <= last}
            model.covered |= set(range(last + 1))
            model.highest = max(model.highest or 0, last)
            continue
        was_first, highest = model.highest is None, model.highest
        missing, filled = model.take(first, last)
        if how == "prev":
            report = detector.seen_update("k", update(last, last, first - 1))
        elif first == last:
            report = detector.seen_number("k", first)
        else:
            report = detector.seen_update("k", update(first, last))
        assert report is not None
        assert set(report.missing) == missing
        assert numbers(report.filled) == filled
        assert numbers(detector.open_gaps("k")) == model.open
        if was_first:
            expected = S.FIRST
        elif last > (highest or 0):
            expected = S.GAP if missing else S.NEXT
        else:
            expected = S.GAP_FILL if filled else S.DUPLICATE
        assert report.status is expected


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        (b"{", "Invalid JSON|invalid JSON"),
        (b'{"detector":"late","v":1,"keys":[]}', "field 'detector'.*'late'"),
        (b'{"detector":"gaps","v":2,"keys":[]}', "field 'v'.*2"),
        (
            b'{"detector":"gaps","v":1,"keys":[{"key":"k","highest":"1","recent":1,"old":null,'
            b'"count":0,"gaps":[]}]}',
            "highest",
        ),
    ],
)
def test_bytes_that_are_no_state_change_nothing(state: bytes, complaint: str) -> None:
    detector = GapDetector()
    told(detector, 1, 3)
    with pytest.raises(DetectorError, match=complaint):
        detector.restore(state)
    assert detector.open_gaps("k") == (range(2, 3),)
