"""Finds events that come out of event-time order, and says how late they are.

By key, the *watermark* follows the highest event time so far at a distance, the bound on
out-of-orderness: nothing at or below it is expected any more. An event that comes all the same is
late; while it is within the *allowed lateness* beyond, it may still be worth using; after that it
is too late. Only event times are compared with each other: the receiver's clock has no part in it,
since it may run behind the exchange's or ahead of it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from .event import Event
from .feeds import MAX_KEYS, KeyTable, checked, feed_of, read_state
from .market_data import MarketDataEvent
from .record import Record

__all__ = ["LateDetector", "Lateness", "LatenessReport"]

_NS_A_MS: Final = 1_000_000


class Lateness(StrEnum):
    """How an event stands to the watermark of its key."""

    #: Above the watermark, in order or not.
    ON_TIME = "on_time"
    #: At or below the watermark, within the allowed lateness.
    LATE = "late"
    #: Beyond the allowed lateness.
    TOO_LATE = "too_late"
    #: Its event time lies too far ahead of the receiver's clock to be true.
    FUTURE = "future"


@dataclass(frozen=True, slots=True)
class LatenessReport:
    """What one event told.

    Parameters:
      key: Whose watermark.
      lateness: The one word for it.
      behind_ns: How far its event time lies below the highest one before it, ns; negative where it
        is the highest now, by so much; None for the first of its key.
      latency_ns: Receiver's time less event time, ns, as it is: negative where the receiver's clock
        runs behind the exchange's. None where the event has no receiver's time.
    """

    key: str
    lateness: Lateness
    behind_ns: int | None
    latency_ns: int | None

    @property
    def is_out_of_order(self) -> bool:
        """Whether an event of a later time came before it."""
        return self.behind_ns is not None and self.behind_ns > 0


class _HighestState(Record):
    key: str
    highest_ns: int


class _LateState(Record):
    detector: Literal["late"]
    v: Literal[1]
    keys: tuple[_HighestState, ...]


class LateDetector:
    """Keeps a watermark by key and says of each event how late it is.

    Deterministic, without a clock. Thread-safe: one lock guards all of it. It judges the order in
    which it is called: hand-overs between threads of an unordered subscription count as well.

    Parameters:
      out_of_orderness_ms: How far below the highest event time an event may lie and be on time, ms.
      allowed_lateness_ms: How much farther below it is late, and not yet too late, ms.
      max_ahead_ms: An event time this far or less ahead of `ts_recv` is believed; farther, it is
        `future` and moves no watermark, since all that follows would be too late. Allow for the
        difference of the clocks. None: all are believed.
      max_keys: Keys remembered; over it, the one that was silent longest is forgotten.

    Raises:
      DetectorError: A parameter is negative, or `max_keys` less than 1.
    """

    def __init__(
        self,
        *,
        out_of_orderness_ms: int = 0,
        allowed_lateness_ms: int = 0,
        max_ahead_ms: int | None = None,
        max_keys: int = MAX_KEYS,
    ) -> None:
        self._bound_ns = checked("out_of_orderness_ms", out_of_orderness_ms, 0) * _NS_A_MS
        self._allowed_ns = checked("allowed_lateness_ms", allowed_lateness_ms, 0) * _NS_A_MS
        self._max_ahead_ns = (
            None if max_ahead_ms is None else checked("max_ahead_ms", max_ahead_ms, 0) * _NS_A_MS
        )
        self._lock = threading.Lock()  # guards all that follows
        self._keys: KeyTable[int] = KeyTable(max_keys)

    def seen(self, event: Event, *, key: str | None = None) -> LatenessReport:
        """Takes an event by its `ts_event` and, of market data, `ts_recv`.

        Parameters:
          event: What came.
          key: Whose watermark; default: `feed_of(event)`. Give `event.key` for one of the
            instrument, which feeds share that overtake each other.
        """
        received_ns = event.ts_recv if isinstance(event, MarketDataEvent) else None
        return self.seen_time(feed_of(event) if key is None else key, event.ts_event, received_ns)

    def seen_time(self, key: str, event_ns: int, received_ns: int | None = None) -> LatenessReport:
        """Takes one event time of a key.

        Parameters:
          key: Whose watermark.
          event_ns: When it happened, ns.
          received_ns: When it was received, ns by the receiver's clock.
        """
        latency_ns = None if received_ns is None else received_ns - event_ns
        with self._lock:
            highest_ns = self._keys.get(key)
            behind_ns = None if highest_ns is None else highest_ns - event_ns
            if self._is_unbelievable(latency_ns):
                return LatenessReport(key, Lateness.FUTURE, behind_ns, latency_ns)
            if highest_ns is None or event_ns > highest_ns:
                highest_ns = event_ns
            self._keys.put(key, highest_ns)
        return LatenessReport(key, self._lateness(behind_ns), behind_ns, latency_ns)

    def watermark(self, key: str | None = None) -> int | None:
        """Return the event time at or below which nothing is expected any more, ns.

        Parameters:
          key: Whose; None: the lowest one of all keys, which holds for them all. A key that is
            silent holds that one back: `forget` it (see `StaleDetector`).

        Returns:
          Highest event time - bound - 1, so that an event exactly at the bound is on time; None
          where nothing was seen yet.
        """
        with self._lock:
            if key is not None:
                highest_ns = self._keys.get(key)
            else:
                highest_ns = min((one for _, one in self._keys.items()), default=None)
        return None if highest_ns is None else highest_ns - self._bound_ns - 1

    def forget(self, key: str) -> None:
        """Begins a key anew, with no watermark."""
        with self._lock:
            self._keys.drop(key)

    @property
    def displaced(self) -> int:
        """Keys that were forgotten because there were more than `max_keys`."""
        return self._keys.displaced

    def state(self) -> bytes:
        """Return all that is known, as JSON: the highest event time by key."""
        with self._lock:
            keys = tuple(
                _HighestState(key=key, highest_ns=highest_ns)
                for key, highest_ns in self._keys.items()
            )
        return _LateState(detector="late", v=1, keys=keys).model_dump_json().encode()

    def restore(self, state: bytes) -> None:
        """Replaces what is known by what `state` returned. Parameters and counts stay.

        Raises:
          DetectorError: The bytes are no state of a LateDetector; nothing is changed.
        """
        read = read_state(_LateState, state)
        with self._lock:
            self._keys.clear()
            for one in read.keys:
                self._keys.put(one.key, one.highest_ns)

    def _is_unbelievable(self, latency_ns: int | None) -> bool:
        limit_ns = self._max_ahead_ns
        return limit_ns is not None and latency_ns is not None and -latency_ns > limit_ns

    def _lateness(self, behind_ns: int | None) -> Lateness:
        if behind_ns is None or behind_ns <= self._bound_ns:
            return Lateness.ON_TIME
        if behind_ns <= self._bound_ns + self._allowed_ns:
            return Lateness.LATE
        return Lateness.TOO_LATE
