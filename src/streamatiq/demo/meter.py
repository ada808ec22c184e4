"""Reads the counters of a running pipeline from the server: logs, groups, audit records.

Nothing here knows the handlers: which subscriptions there are is read from the consumer groups of
the logs. Audit records are read once each, after the last one seen, and added up; their streams are
capped, so `Reading.audit_missed` says how many were dropped before they could be read.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis
from pydantic_core import from_json

from ..broker.faults import translated
from ..broker.histogram import add_up
from ..broker.keys import Keys, LogKeys, SourceKeys
from ..broker.parts import parts
from ..events import Event

__all__ = ["Meter", "Reading", "SubscriptionReading"]

#: Audit records of one read.
PAGE = 1000
#: Fields of an audit record that count no outcome.
NOT_OUTCOMES = frozenset({"batch", "at", "n", "waited_us", "ran_us", "emitted"})


@dataclass(slots=True)
class SubscriptionReading:
    """One subscription, since the beginning of the run.

    Attributes:
      outcomes: Deliveries ended, by what the audit calls it: done, parked, dead_lettered, ...
      latency: Publish to handler start, first attempts: a histogram (`broker.histogram`).
      unread: Entries not given to a worker yet.
      pending: Entries given to a worker or parked, not settled.
      parked: Entries put aside: they wait for their next attempt.
      dead: Dead letters.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    latency: dict[int, int] = field(default_factory=dict)
    unread: int = 0
    pending: int = 0
    parked: int = 0
    dead: int = 0

    @property
    def handled(self) -> int:
        """Handlers that succeeded."""
        return self.outcomes["done"]

    @property
    def retried(self) -> int:
        """Handlers that failed and whose event was put aside for another attempt."""
        return self.outcomes["parked"]

    @property
    def lag(self) -> int:
        """Entries still to be settled."""
        return self.unread + self.pending


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one time.

    Attributes:
      at_s: When, by the meter's clock.
      published: Events in each log, by type.
      subscriptions: By name.
      audit_missed: Audit records that were dropped before they were read.
    """

    at_s: float
    published: Mapping[str, int]
    subscriptions: Mapping[str, SubscriptionReading]
    audit_missed: int

    @property
    def lag(self) -> int:
        """Entries still to be settled, over all subscriptions."""
        return sum(one.lag for one in self.subscriptions.values())


@dataclass(slots=True)
class _Audit:
    """What was read of one subscription's audit on one stream."""

    name: str
    keys: SourceKeys
    last: bytes = b"-"
    records: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    latency: dict[int, int] = field(default_factory=dict)

    def add(self, page: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
        for entry_id, fields in page:
            record: dict[str, Any] = from_json(fields[b"r"])
            latency = {int(bucket): count for bucket, count in record["latency"].items()}
            self.latency = add_up((self.latency, latency))
            for name, value in record.items():
                if isinstance(value, int) and name not in NOT_OUTCOMES:
                    self.outcomes[name] += value
            self.last = b"(" + entry_id
            self.records += 1


class Meter:
    """Reads the logs of `event_classes`. For one thread.

    Parameters:
      client: Of the server; replies as bytes.
      where: The server's name in messages.
      keys: The namespace.
      event_classes: Which logs; in the order in which they are shown.
      clock: Monotonic, seconds.
    """

    def __init__(
        self,
        client: redis.Redis,
        where: str,
        keys: Keys,
        event_classes: Sequence[type[Event]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._where = where
        self._clock = clock
        self._streams: list[tuple[str, LogKeys]] = [
            (cls.event_type, keys.log(cls.event_type, part))
            for cls in event_classes
            for part in parts(cls.log)
        ]
        self._audits: dict[tuple[str, str], _Audit] = {}

    def read(self) -> Reading:
        """Reads all counters, in two round trips or three.

        Raises:
          BrokerError: The server cannot be reached, or refuses.
        """
        published: Counter[str] = Counter()
        subscriptions: dict[str, SubscriptionReading] = {}
        missed = 0
        with translated(self._where):
            at_s = self._clock()
            for event_type, stream in self._streams:
                info, groups = self._look(stream)
                published[event_type] += info["length"] if info else 0
                for group in groups:
                    one = subscriptions.setdefault(group["name"].decode(), SubscriptionReading())
                    missed += self._add(one, stream, info, group)
        return Reading(at_s, published, subscriptions, missed)

    def _look(self, stream: LogKeys) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """XINFO of a stream and of its groups; empty where it does not exist yet."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.xinfo_stream(stream.entries)
            pipe.xinfo_groups(stream.entries)
            info, groups = pipe.execute(raise_on_error=False)
        for reply in (info, groups):
            if isinstance(reply, redis.ResponseError) and "no such key" in str(reply).lower():
                return {}, []
            if isinstance(reply, Exception):
                raise reply
        return info, groups

    def _add(
        self,
        one: SubscriptionReading,
        stream: LogKeys,
        info: Mapping[str, Any],
        group: Mapping[str, Any],
    ) -> int:
        """Adds one stream's part of a subscription; returns the audit records that are missing."""
        name = group["name"].decode()
        audit = self._audits.get((stream.tag, name))
        if audit is None:
            audit = _Audit(name, stream.subscription(name))
            self._audits[stream.tag, name] = audit
        with self._client.pipeline(transaction=False) as pipe:
            pipe.zcard(audit.keys.parked)
            pipe.xlen(audit.keys.dead)
            pipe.xinfo_stream(audit.keys.audit)
            pipe.xrange(audit.keys.audit, min=audit.last, count=PAGE)
            parked, dead, audited, page = pipe.execute(raise_on_error=False)
        for reply in (parked, dead, page):
            if isinstance(reply, Exception):
                raise reply
        while page:
            audit.add(page)
            if len(page) < PAGE:
                break
            page = self._client.xrange(audit.keys.audit, min=audit.last.decode(), count=PAGE)
        one.outcomes += audit.outcomes
        one.latency = add_up((one.latency, audit.latency))
        one.pending += group["pending"]
        one.parked += parked
        one.dead += dead
        one.unread += self._unread(stream, info, group)
        written = 0 if isinstance(audited, Exception) else audited["entries-added"]
        return max(0, written - audit.records)

    def _unread(self, stream: LogKeys, info: Mapping[str, Any], group: Mapping[str, Any]) -> int:
        if group["last-delivered-id"] == info["last-generated-id"]:
            return 0
        if group["lag"] is not None:
            return int(group["lag"])
        # The server does not know it, as for a group that was made when the log had entries.
        after = f"({group['last-delivered-id'].decode()}"
        entries: Any = self._client.xrange(stream.entries, min=after)
        return len(entries)
