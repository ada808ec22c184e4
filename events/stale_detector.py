"""Finds feeds that have gone silent.

Silence makes no event, so somebody has to ask: call `stale` now and then, from a handler of clock
ticks or of the feeds that go on.

Whose clock: give the time at which the receiver got the event (`ts_recv`), and ask with the same
clock. Then a backlog of ours does not look like a silent feed, and it does not matter that the
exchange's clock is another one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .event import Event
from .feeds import MAX_KEYS, KeyTable, checked, feed_of, read_state
from .market_data import MarketDataEvent
from .record import Record
from .times import now_ns

__all__ = ["Silence", "StaleDetector"]


@dataclass(frozen=True, slots=True)
class Silence:
    """A silence of one key.

    Parameters:
      key: Which.
      since_ns: When it was seen last, or since when it was expected, ns by the detector's clock.
      silent_ns: How long it was silent when this was found, ns.
    """

    key: str
    since_ns: int
    silent_ns: int


@dataclass(slots=True)
class _Watched:
    last_ns: int
    limit_ns: int
    is_stale: bool = False


class _WatchedState(Record):
    key: str
    #: An age, not a time: while nobody listens, nobody is silent.
    silent_ns: int
    is_stale: bool


class _StaleState(Record):
    detector: Literal["stale"]
    v: Literal[1]
    keys: tuple[_WatchedState, ...]


class StaleDetector:
    """Finds keys that have been silent for longer than their limit, and tells when they are back.

    Deterministic where it is given the times. Thread-safe: one lock guards all of it. Times may
    come out of order; the latest one of a key counts.

    Parameters:
      limit_ms: Longest silence that is normal, in ms; or a function that gives it for a key, called
        once when the key is new.
      clock_ns: What "now" is where a call does not say it: ns, as `ts_recv` counts them.
      max_keys: Keys remembered; over it, the one that was silent longest is forgotten, and not
        told any more. Have it above the number of your feeds.

    Raises:
      DetectorError: A parameter is less than 1.
    """

    def __init__(
        self,
        limit_ms: int | Callable[[str], int],
        *,
        clock_ns: Callable[[], int] = now_ns,
        max_keys: int = MAX_KEYS,
    ) -> None:
        if not callable(limit_ms):
            checked("limit_ms", limit_ms, 1)
        self._limit_ms = limit_ms
        self._clock_ns = clock_ns
        self._lock = threading.Lock()  # guards all that follows
        self._keys: KeyTable[_Watched] = KeyTable(max_keys)

    def seen(self, event: Event, at_ns: int | None = None) -> Silence | None:
        """Takes an event; the key is `feed_of(event)`. See `seen_key`.

        Parameters:
          event: What came.
          at_ns: When; default: its `ts_recv`, or now where it has none.
        """
        if at_ns is None and isinstance(event, MarketDataEvent):
            at_ns = event.ts_recv
        return self.seen_key(feed_of(event), at_ns)

    def seen_key(self, key: str, at_ns: int | None = None) -> Silence | None:
        """Notes that a key was seen.

        Parameters:
          key: Which; it is watched from now on.
          at_ns: When, ns; default: now.

        Returns:
          The silence that ended with it, if `stale` has told of that one; else None.
        """
        at = self._clock_ns() if at_ns is None else at_ns
        with self._lock:
            known = self._keys.get(key)
            if known is None:
                self._keys.put(key, _Watched(at, self._limit_ns(key)))
                return None
            if at <= known.last_ns:
                return None
            ended = Silence(key, known.last_ns, at - known.last_ns) if known.is_stale else None
            known.last_ns = at
            known.is_stale = False
            self._keys.put(key, known)
            return ended

    def expect(self, key: str, at_ns: int | None = None) -> None:
        """Watches a key before it is first seen: a feed that never begins is silent, too.

        A key that is known stays as it is.
        """
        at = self._clock_ns() if at_ns is None else at_ns
        with self._lock:
            if self._keys.get(key) is None:
                self._keys.put(key, _Watched(at, self._limit_ns(key)))

    def stale(self, now_ns: int | None = None) -> list[Silence]:
        """Return the silences longer than their limits that were not told yet, by key.

        A silence is told once; the next one of the key after it was seen again. The call takes time
        in proportion to the number of keys.

        Parameters:
          now_ns: Ns, by the same clock as the times of `seen`; default: now.
        """
        now = self._clock_ns() if now_ns is None else now_ns
        found = []
        with self._lock:
            for key, one in self._keys.items():
                silent_ns = now - one.last_ns
                if silent_ns > one.limit_ns and not one.is_stale:
                    one.is_stale = True
                    found.append(Silence(key, one.last_ns, silent_ns))
        return sorted(found, key=lambda silence: silence.key)

    @property
    def stale_keys(self) -> tuple[str, ...]:
        """The keys whose silence was told and has not ended, sorted."""
        with self._lock:
            return tuple(sorted(key for key, one in self._keys.items() if one.is_stale))

    def forget(self, key: str) -> None:
        """Watches a key no more: a feed that was switched off."""
        with self._lock:
            self._keys.drop(key)

    @property
    def displaced(self) -> int:
        """Keys that were forgotten because there were more than `max_keys`."""
        return self._keys.displaced

    def state(self, now_ns: int | None = None) -> bytes:
        """Return all that is known, as JSON: how long each key has been silent, and if it was told.

        Parameters:
          now_ns: Ns; default: now.
        """
        now = self._clock_ns() if now_ns is None else now_ns
        with self._lock:
            keys = tuple(
                _WatchedState(key=key, silent_ns=now - one.last_ns, is_stale=one.is_stale)
                for key, one in self._keys.items()
            )
        return _StaleState(detector="stale", v=1, keys=keys).model_dump_json().encode()

    def restore(self, state: bytes, now_ns: int | None = None) -> None:
        """Replaces what is known by what `state` returned. Limits are this detector's own.

        The time between the two calls counts as no silence, since nobody listened.

        Raises:
          DetectorError: The bytes are no state of a StaleDetector, or a limit is less than 1;
            nothing is changed.
        """
        read = read_state(_StaleState, state)
        now = self._clock_ns() if now_ns is None else now_ns
        with self._lock:
            limits_ns = [self._limit_ns(one.key) for one in read.keys]
            self._keys.clear()
            for one, limit_ns in zip(read.keys, limits_ns, strict=True):
                self._keys.put(one.key, _Watched(now - one.silent_ns, limit_ns, one.is_stale))

    def _limit_ns(self, key: str) -> int:
        limit = self._limit_ms
        if callable(limit):
            limit = checked(f"limit_ms of {key!r}", limit(key), 1)
        return limit * 1_000_000
