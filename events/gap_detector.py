"""Finds what a feed has lost, by the venue's own numbers: trade ids, book update ids, sequences.

For each key the detector knows the highest number so far and the gaps that are still open below it.
A number above the highest moves it, and what lies between is missing; one in an open gap fills it;
any other one was there before. It relies on two things that only its caller can see to:

- it sees *all* numbers of a key, or what another process handled would look like a gap;
- in the order of the log, or a gap is told and then filled a moment later.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from .book import BookDeltas, missed_updates
from .feeds import MAX_KEYS, KeyTable, checked, feed_of, read_state
from .market_data import MarketDataEvent, Trade
from .record import Record

__all__ = ["GapDetector", "GapReport", "SequenceStatus"]

#: Messages of a key below all of which a number begins a new sequence. No distance of numbers would
#: do: a venue may advance its books by thousands a message. As many as a backlog holds by default,
#: so that what is delivered again is not taken for a new sequence.
RESET_AFTER: Final = 10_000
#: Open gaps remembered of one key.
MAX_GAPS: Final = 1_000
#: Longest trade id that is read as a number, in digits; longer ones are text.
MAX_DIGITS: Final = 38


class SequenceStatus(StrEnum):
    """What a number says about its sequence."""

    #: The first one of its key.
    FIRST = "first"
    #: It follows without a gap.
    NEXT = "next"
    #: Numbers before it are missing.
    GAP = "gap"
    #: It was missing until now.
    GAP_FILL = "gap_fill"
    #: It was there before, as far as is known.
    DUPLICATE = "duplicate"
    #: The sequence began anew, below all recent numbers.
    RESET = "reset"
    #: A snapshot of a book: nothing before it is needed any more.
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class GapReport:
    """What one message told.

    Parameters:
      key: Of the sequence.
      status: The one word for it.
      missing: Numbers that are missing since this message; empty unless the status is `gap`. Where
        a venue numbers with holes, an update is missing among them.
      filled: Numbers that were missing until this message.
    """

    key: str
    status: SequenceStatus
    missing: range = range(0)
    filled: tuple[range, ...] = ()


@dataclass(slots=True)
class _Sequence:
    """One sequence.

    Parameters:
      highest: The highest number so far.
      recent: What `highest` was when `count` began.
      old: What `recent` was before; None until then. At least `reset_after` messages ago.
      count: Messages since `recent` was noted.
      gaps: Open gaps, ascending.
    """

    highest: int
    recent: int
    old: int | None = None
    count: int = 0
    gaps: list[range] = field(default_factory=list)


class _SequenceState(Record):
    key: str
    highest: int
    recent: int
    old: int | None
    count: int
    gaps: tuple[tuple[int, int], ...]


class _GapState(Record):
    detector: Literal["gaps"]
    v: Literal[1]
    keys: tuple[_SequenceState, ...]


class GapDetector:
    """Finds missing, repeated and restarted numbers by key.

    Deterministic, without a clock. Thread-safe: one lock guards all of it, which brings no messages
    into their order; see the module.

    Parameters:
      reset_after: A number below all those of the last so many messages of its key (or up to twice
        as many) begins a new sequence. Nearer ones cannot be told from messages that came twice:
        where a venue begins anew with each connection, call `forget` when you connect.
      max_keys: Keys remembered; over it, the one that was silent longest is forgotten.
      max_gaps: Open gaps remembered a key; over it, the oldest one is given up.

    Raises:
      DetectorError: A parameter is less than 1.
    """

    def __init__(
        self,
        *,
        reset_after: int = RESET_AFTER,
        max_keys: int = MAX_KEYS,
        max_gaps: int = MAX_GAPS,
    ) -> None:
        self._reset_after = checked("reset_after", reset_after, 1)
        self._max_gaps = checked("max_gaps", max_gaps, 1)
        self._lock = threading.Lock()  # guards all that follows
        self._keys: KeyTable[_Sequence] = KeyTable(max_keys)
        self._given_up = 0

    def seen(self, event: MarketDataEvent) -> GapReport | None:
        """Takes a trade or a book message; the key is `feed_of(event)`.

        Returns:
          What it told; None where it has no number to go by: quotes and bars (venues number quotes
          with holes), trade ids that are not decimal digits, book messages without update ids.
        """
        data = event.data
        if isinstance(data, BookDeltas):
            return self.seen_update(feed_of(event), data)
        if isinstance(data, Trade):
            text = data.trade_id or ""
            if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS:
                return self.seen_number(feed_of(event), int(text))
        return None

    def seen_number(self, key: str, number: int) -> GapReport:
        """Takes one number of a sequence that counts by one."""
        with self._lock:
            sequence = self._keys.get(key)
            before = number if sequence is None else sequence.highest + 1
            return self._take(key, sequence, number, number, range(before, number))

    def seen_update(self, key: str, update: BookDeltas) -> GapReport | None:
        """Takes a message of a book; what is missing is decided by `missed_updates`.

        A snapshot closes every open gap up to its number. One that is older than the messages
        before it, as an answer to a question may be, does not lead back to its number.

        Returns:
          What it told; None if it has no update id.
        """
        last = update.last_update_id
        if last is None and not update.snapshot:
            return None
        with self._lock:
            sequence = self._keys.get(key)
            if update.snapshot:
                return self._take_snapshot(key, sequence, last)
            assert last is not None
            if update.prev_update_id is not None:
                first = update.prev_update_id + 1
            else:
                first = last if update.first_update_id is None else update.first_update_id
            missing = missed_updates(None if sequence is None else sequence.highest, update)
            return self._take(key, sequence, min(first, last), last, missing)

    def open_gaps(self, key: str) -> tuple[range, ...]:
        """Return what is still missing of a key, ascending."""
        with self._lock:
            sequence = self._keys.get(key)
            return () if sequence is None else tuple(sequence.gaps)

    def forget(self, key: str) -> None:
        """Begins a key anew: its next number is its first. For a new connection or session."""
        with self._lock:
            self._keys.drop(key)

    @property
    def displaced(self) -> int:
        """Keys that were forgotten because there were more than `max_keys`."""
        return self._keys.displaced

    @property
    def given_up(self) -> int:
        """Open gaps that were forgotten because their key had more than `max_gaps`."""
        return self._given_up

    def state(self) -> bytes:
        """Return all that is known, as JSON: highest number and open gaps by key."""
        with self._lock:
            keys = tuple(
                _SequenceState(
                    key=key,
                    highest=one.highest,
                    recent=one.recent,
                    old=one.old,
                    count=one.count,
                    gaps=tuple((gap.start, gap.stop) for gap in one.gaps),
                )
                for key, one in self._keys.items()
            )
        return _GapState(detector="gaps", v=1, keys=keys).model_dump_json().encode()

    def restore(self, state: bytes) -> None:
        """Replaces what is known by what `state` returned. Parameters and counts stay.

        Raises:
          DetectorError: The bytes are no state of a GapDetector; nothing is changed.
        """
        read = read_state(_GapState, state)
        with self._lock:
            self._keys.clear()
            for one in read.keys:
                gaps = [range(start, stop) for start, stop in one.gaps]
                self._keys.put(
                    one.key,
                    _Sequence(one.highest, one.recent, one.old, one.count, gaps[-self._max_gaps :]),
                )

    # -- under the lock ------------------------------------------------------------------------

    def _take(
        self, key: str, sequence: _Sequence | None, first: int, last: int, missing: range
    ) -> GapReport:
        """A message that covers the numbers from `first` to `last`."""
        if sequence is None:
            self._keys.put(key, _Sequence(last, last))
            return GapReport(key, SequenceStatus.FIRST)
        self._count(key, sequence)
        filled = _fill(sequence, first, last)
        if last <= sequence.highest:
            if filled:
                return GapReport(key, SequenceStatus.GAP_FILL, filled=filled)
            if not self._is_old(sequence, last):
                return GapReport(key, SequenceStatus.DUPLICATE)
            self._keys.put(key, _Sequence(last, last))
            return GapReport(key, SequenceStatus.RESET)
        sequence.highest = last
        if not missing:
            return GapReport(key, SequenceStatus.NEXT, filled=filled)
        sequence.gaps.append(missing)
        if len(sequence.gaps) > self._max_gaps:
            del sequence.gaps[0]
            self._given_up += 1
        return GapReport(key, SequenceStatus.GAP, missing, filled)

    def _take_snapshot(self, key: str, sequence: _Sequence | None, last: int | None) -> GapReport:
        filled: tuple[range, ...] = ()
        if last is None:
            self._keys.drop(key)
        elif sequence is None or self._is_old(sequence, last):
            self._keys.put(key, _Sequence(last, last))
        else:
            self._count(key, sequence)
            if sequence.gaps:
                filled = _fill(sequence, min(sequence.gaps[0].start, last), last)
            sequence.highest = max(sequence.highest, last)
        return GapReport(key, SequenceStatus.SNAPSHOT, filled=filled)

    def _count(self, key: str, sequence: _Sequence) -> None:
        """Notes one more message of a key."""
        self._keys.put(key, sequence)
        sequence.count += 1
        if sequence.count >= self._reset_after:
            sequence.old, sequence.recent = sequence.recent, sequence.highest
            sequence.count = 0

    @staticmethod
    def _is_old(sequence: _Sequence, number: int) -> bool:
        return sequence.old is not None and number < sequence.old


def _fill(sequence: _Sequence, first: int, last: int) -> tuple[range, ...]:
    """Takes the numbers from `first` to `last` out of the open gaps; returns those that were in."""
    gaps = sequence.gaps
    begin = bisect_right(gaps, first, key=lambda gap: gap.stop)
    end = bisect_left(gaps, last + 1, lo=begin, key=lambda gap: gap.start)
    touched = gaps[begin:end]
    filled = tuple(range(max(gap.start, first), min(gap.stop, last + 1)) for gap in touched)
    if touched:
        ends = (range(touched[0].start, first), range(last + 1, touched[-1].stop))
        gaps[begin:end] = [part for part in ends if part]
    return filled
