"""What one run left behind: in the logs, in the ledgers outside of Redis, and in the audit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import redis

from streamatiq import (
    DeadLetterEntry,
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    RedisStreamsBroker,
    SignalEvent,
)
from streamatiq.broker.histogram import add_up

from .pipeline.ledgers import POSITIONS, VENUE_BOOK, Arrivals, Book
from .pipeline.subscriptions import SUBSCRIPTIONS
from .recording import Tick, tick_of

__all__ = ["AuditTail", "AuditTotals", "Evidence", "gather"]

#: Audit records of one read.
PAGE = 1_000


@dataclass(slots=True)
class AuditTotals:
    """What the audit of one subscription adds up to.

    Parameters:
      outcomes: Settled entries by outcome.
      emitted: Events that its handlers emitted.
      latency: Publish to handler start, as a histogram.
      records: Settled batches.
      last_ms: When the last of them was settled.
      unread: Records that were trimmed before they were read.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    emitted: int = 0
    latency: dict[int, int] = field(default_factory=dict)
    records: int = 0
    last_ms: int = 0
    unread: int = 0


class AuditTail:
    """Reads the audit along: the server keeps only about the newest 10,000 records a stream."""

    def __init__(self, broker: RedisStreamsBroker, client: redis.Redis) -> None:
        self._client = client
        self._totals = {name: AuditTotals() for name in SUBSCRIPTIONS}
        self._streams = [
            (name, broker.keys.log(cls.event_type, "0").subscription(name).audit)
            for name, classes in SUBSCRIPTIONS.items()
            for cls in classes
        ]
        self._after = {key: "-" for _, key in self._streams}
        self._read: Counter[str] = Counter()

    def read(self) -> None:
        """Adds up what has come since the last call."""
        for name, key in self._streams:
            while True:
                page: Any = self._client.xrange(key, self._after[key], "+", PAGE)
                for entry_id, fields in page:
                    self._add(self._totals[name], json.loads(fields[b"r"]))
                    self._after[key] = f"({entry_id.decode()}"
                self._read[key] += len(page)
                if len(page) < PAGE:
                    break

    def totals(self) -> dict[str, AuditTotals]:
        """By subscription."""
        self.read()
        for name, key in self._streams:
            added: Any = self._client.xinfo_stream(key) if self._client.exists(key) else {}
            self._totals[name].unread += added.get("entries-added", 0) - self._read[key]
        return self._totals

    @staticmethod
    def _add(totals: AuditTotals, record: dict[str, Any]) -> None:
        known = {"writer", "batch", "at", "n", "latency", "waited_us", "ran_us", "emitted"}
        outcomes = {what: count for what, count in record.items() if what not in known}
        assert sum(outcomes.values()) == record["n"], f"outcomes do not add up to n: {record}"
        totals.outcomes.update(outcomes)
        totals.emitted += record["emitted"]
        latency = {int(bucket): count for bucket, count in record["latency"].items()}
        totals.latency = add_up([totals.latency, latency])
        totals.records += 1
        totals.last_ms = max(totals.last_ms, record["at"])


@dataclass(frozen=True, slots=True)
class Evidence:
    """One run, after everything was settled.

    Parameters:
      rows: The recording as it was given to ingest.
      ticks: The log of market data; `tick_ids` are the ids of its events.
      appended_us: When the first and the last of them were appended, by the server's clock.
      signals, orders, fills: The other logs, each in the order of its stream.
      groups: The consumer groups of each log, by event type.
      handled: Ids that reached each subscription, by process; from the ledgers.
      venue_book: What the venue wrote down.
      positions: What the portfolio booked.
      audit: By subscription.
      dead_letters, backlog: By subscription.
      worker_log: What the worker processes logged.
    """

    rows: Sequence[Tick]
    ticks: Sequence[Tick]
    tick_ids: Sequence[UUID]
    appended_us: tuple[int, int]
    signals: Sequence[SignalEvent]
    orders: Sequence[OrderEvent]
    fills: Sequence[FillEvent]
    groups: Mapping[str, set[str]]
    handled: Mapping[str, Mapping[int, Sequence[bytes]]]
    venue_book: Sequence[dict[str, Any]]
    positions: Sequence[dict[str, Any]]
    audit: Mapping[str, AuditTotals]
    dead_letters: Mapping[str, Sequence[DeadLetterEntry]]
    backlog: Mapping[str, int]
    worker_log: str

    def ids(self, event_type: str) -> list[bytes]:
        """Ids of the events in the log of a type."""
        if event_type == MarketDataEvent.event_type:
            return [one.bytes for one in self.tick_ids]
        logs = (self.signals, self.orders, self.fills)
        return [one.id.bytes for log in logs for one in log if one.event_type == event_type]


def gather(
    broker: RedisStreamsBroker,
    tail: AuditTail,
    *,
    rows: Sequence[Tick],
    ledgers: Path,
    worker_log: str,
) -> Evidence:
    """Reads everything that a run has left."""
    ticks: list[Tick] = []
    tick_ids: list[UUID] = []
    appended: list[int] = []
    for entry in broker.logs.read(MarketDataEvent):  # not kept: the whole file's are half a GB
        ticks.append(tick_of(entry.event))
        tick_ids.append(entry.event.id)
        appended.append(entry.appended_us)
    logs = {cls.event_type: cls for classes in SUBSCRIPTIONS.values() for cls in classes}
    with broker.client() as client:
        groups: dict[str, set[str]] = {}
        for event_type in logs:
            found: Any = client.xinfo_groups(broker.keys.log(event_type, "0").entries)
            groups[event_type] = {group["name"].decode() for group in found}
    return Evidence(
        rows=rows,
        ticks=ticks,
        tick_ids=tick_ids,
        appended_us=(min(appended), max(appended)),
        signals=[one.event for one in broker.logs.read(SignalEvent)],
        orders=[one.event for one in broker.logs.read(OrderEvent)],
        fills=[one.event for one in broker.logs.read(FillEvent)],
        groups=groups,
        handled=Arrivals.read(ledgers),
        venue_book=Book.read(ledgers / VENUE_BOOK),
        positions=Book.read(ledgers / POSITIONS),
        audit=tail.totals(),
        dead_letters={name: list(broker.dead_letters(name)) for name in SUBSCRIPTIONS},
        backlog={name: broker.backlog(name) for name in SUBSCRIPTIONS},
        worker_log=worker_log,
    )
