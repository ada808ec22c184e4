"""Goes through the logs after a run: what became of every single event, and do the fills add up.

For each event and each subscription of its log exactly one of these is found on the server:

    handled   its done mark is there, which the settle wrote together with what was emitted
    dead      it stands in the dead letters
    left      it is pending, parked, or not yet read by any worker
    lost      none of these: it was taken off the group and nothing says why

The counters of the audit say how often handlers ran, these say what came of it; `handled` in the
audit less distinct events handled is what ran twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import Any

import redis

from ..broker import Logs
from ..broker.faults import translated
from ..broker.keys import Keys, SourceKeys
from ..broker.parts import parts
from ..broker.reading import LogEntry
from ..errors import EventError
from ..events import Event, FillEvent, OrderEvent, OrderStatus

__all__ = ["Account", "Accounts", "Book", "check_logs"]

#: Events whose done marks are asked for in one call.
PAGE = 500


@dataclass(slots=True)
class Account:
    """What became of the events of one subscription."""

    handled: int = 0
    dead: int = 0
    left: int = 0
    lost: int = 0


@dataclass(slots=True)
class Book:
    """Orders and their fills, kept by the rules of an order's life.

    Attributes:
      orders: By client order id, each as its fills have left it.
      fills: Number of fills.
      problems: What does not agree, one line each.
    """

    orders: dict[str, OrderEvent] = field(default_factory=dict)
    fills: int = 0
    problems: list[str] = field(default_factory=list)
    _executions: set[str] = field(default_factory=set)

    def order(self, order: OrderEvent) -> None:
        """Adds a new order."""
        if order.client_order_id in self.orders:
            self.problems.append(f"order {order.client_order_id} was placed twice")
        else:
            self.orders[order.client_order_id] = order

    def fill(self, fill: FillEvent) -> None:
        """Applies a fill to its order; fills of an order come in order, since one settle wrote
        them."""
        self.fills += 1
        order = self.orders.get(fill.client_order_id)
        if fill.exec_id in self._executions:
            self.problems.append(f"execution {fill.exec_id} was reported twice")
            return
        self._executions.add(fill.exec_id)
        if order is None:
            self.problems.append(f"execution {fill.exec_id} is of an order that nobody placed")
            return
        try:
            self.orders[fill.client_order_id] = order.filled_by(fill)
        except EventError as error:
            self.problems.append(str(error))

    @property
    def filled(self) -> int:
        """Orders filled in full."""
        return sum(order.status is OrderStatus.FILLED for order in self.orders.values())

    @property
    def ordered_quantity(self) -> Decimal:
        return sum((order.quantity for order in self.orders.values()), Decimal())

    @property
    def filled_quantity(self) -> Decimal:
        return sum((order.cum_quantity for order in self.orders.values()), Decimal())


@dataclass(slots=True)
class Accounts:
    """The result.

    Attributes:
      events: Events in each log, by type.
      subscriptions: By name.
      book: Orders and fills.
    """

    events: Counter[str] = field(default_factory=Counter)
    subscriptions: dict[str, Account] = field(default_factory=dict)
    book: Book = field(default_factory=Book)

    @property
    def lost(self) -> int:
        return sum(account.lost for account in self.subscriptions.values())

    @property
    def left(self) -> int:
        return sum(account.left for account in self.subscriptions.values())

    @property
    def dead(self) -> int:
        return sum(account.dead for account in self.subscriptions.values())


@dataclass(frozen=True, slots=True)
class _Group:
    """A subscription on one stream, as the server has it at the end."""

    keys: SourceKeys
    last_delivered: tuple[int, int]
    pending: frozenset[str]
    dead: frozenset[str]
    account: Account


def check_logs(
    client: redis.Redis,
    where: str,
    keys: Keys,
    logs: Logs,
    event_classes: Sequence[type[Event]],
) -> Accounts:
    """Reads every log to its end. No worker may run any more.

    Parameters:
      client: Of the server; replies as bytes.
      where: The server's name in messages.
      keys: The namespace.
      logs: Of the same namespace.
      event_classes: Which logs; orders before fills.

    Raises:
      EventDecodeError: An entry of a log is no event.
      BrokerError: The server cannot be reached, or refuses.
    """
    result = Accounts()
    for cls in event_classes:
        for part in parts(cls.log):
            with translated(where):
                groups = _groups(client, keys, cls.event_type, part, result)
            entries = logs.read(cls, part=part)
            while page := list(islice(entries, PAGE)):
                result.events[cls.event_type] += len(page)
                for group in groups:
                    with translated(where):
                        _account(client, group, page)
                _keep_book(result.book, (entry.event for entry in page))
    return result


def _keep_book(book: Book, events: Iterator[Event]) -> None:
    for event in events:
        if isinstance(event, OrderEvent):
            book.order(event)
        elif isinstance(event, FillEvent):
            book.fill(event)


def _groups(
    client: redis.Redis, keys: Keys, event_type: str, part: str, result: Accounts
) -> list[_Group]:
    stream = keys.log(event_type, part)
    if not client.exists(stream.entries):
        return []
    groups = []
    for info in client.xinfo_groups(stream.entries):
        name = info["name"].decode()
        source = stream.subscription(name)
        groups.append(
            _Group(
                keys=source,
                last_delivered=_number(info["last-delivered-id"].decode()),
                pending=frozenset(_pending(client, stream.entries, name)),
                dead=frozenset(_dead(client, source.dead)),
                account=result.subscriptions.setdefault(name, Account()),
            )
        )
    return groups


def _pending(client: redis.Redis, stream: str, group: str) -> Iterator[str]:
    first = "-"
    while True:
        page: Any = client.xpending_range(stream, group, min=first, max="+", count=PAGE)
        yield from (one["message_id"].decode() for one in page)
        if len(page) < PAGE:
            return
        first = f"({page[-1]['message_id'].decode()}"


def _dead(client: redis.Redis, stream: str) -> Iterator[str]:
    """The entries that have a dead letter."""
    first = "-"
    while True:
        page: Any = client.xrange(stream, first, "+", PAGE)
        yield from (fields[b"entry"].decode() for _, fields in page)
        if len(page) < PAGE:
            return
        first = f"({page[-1][0].decode()}"


def _account(client: redis.Redis, group: _Group, page: Sequence[LogEntry[Event]]) -> None:
    ids = [entry.event.id.bytes for entry in page]
    young = client.hmget(group.keys.done, ids)
    old = client.hmget(group.keys.done_old, ids)
    account = group.account
    for entry, mark, older in zip(page, young, old, strict=True):
        if entry.entry_id in group.dead:
            account.dead += 1
        elif entry.entry_id in group.pending or _number(entry.entry_id) > group.last_delivered:
            account.left += 1
        elif mark is not None or older is not None:
            account.handled += 1
        else:
            account.lost += 1


def _number(entry_id: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence)
