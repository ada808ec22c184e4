"""A stream, its groups, and what is pending: state and the rules that keep it whole."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["MAX_ID", "ZERO", "Consumer", "Group", "Id", "IdMap", "Pending", "Stream"]

#: Milliseconds, and the number within the millisecond.
Id = tuple[int, int]

ZERO: Id = (0, 0)
MAX_ID: Id = (2**64 - 1, 2**64 - 1)
#: Entries of one block of the server: `MAXLEN ~` drops whole blocks only.
BLOCK = 100

V = TypeVar("V")


class IdMap(Generic[V]):
    """Values by id, in order."""

    def __init__(self) -> None:
        self._ids: list[Id] = []
        self._values: dict[Id, V] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, entry_id: Id) -> bool:
        return entry_id in self._values

    def get(self, entry_id: Id) -> V | None:
        return self._values.get(entry_id)

    def put(self, entry_id: Id, value: V) -> None:
        if entry_id not in self._values:
            if not self._ids or entry_id > self._ids[-1]:
                self._ids.append(entry_id)
            else:
                insort(self._ids, entry_id)
        self._values[entry_id] = value

    def pop(self, entry_id: Id) -> V | None:
        value = self._values.pop(entry_id, None)
        if value is not None:
            del self._ids[bisect_left(self._ids, entry_id)]
        return value

    def range(self, first: Id, last: Id, *, backwards: bool = False) -> Iterator[tuple[Id, V]]:
        """Ids from `first` to `last`, both included. It may be changed meanwhile."""
        ids = self._ids[bisect_left(self._ids, first) : bisect_right(self._ids, last)]
        for entry_id in reversed(ids) if backwards else ids:
            yield entry_id, self._values[entry_id]

    @property
    def first(self) -> Id | None:
        return self._ids[0] if self._ids else None

    @property
    def last(self) -> Id | None:
        return self._ids[-1] if self._ids else None


@dataclass(slots=True)
class Pending:
    """An entry that was delivered and not acknowledged."""

    consumer: Consumer
    delivered_ms: int
    count: int


@dataclass(slots=True)
class Consumer:
    """A member of a group."""

    name: bytes
    seen_ms: int
    #: Last time that it got an entry; -1 = never.
    active_ms: int = -1
    pending: IdMap[Pending] = field(default_factory=IdMap)


@dataclass(slots=True)
class Group:
    """A consumer group."""

    last_id: Id
    #: How many entries of the stream were read; None if that cannot be known.
    entries_read: int | None = None
    pending: IdMap[Pending] = field(default_factory=IdMap)
    consumers: dict[bytes, Consumer] = field(default_factory=dict)

    def consumer(self, name: bytes, now_ms: int) -> Consumer:
        """Consumer `name`, seen now; a new one where there is none."""
        one = self.consumers.get(name)
        if one is None:
            one = self.consumers[name] = Consumer(name, now_ms)
        one.seen_ms = now_ms
        return one

    def deliver(self, entry_id: Id, consumer: Consumer, now_ms: int, count: int) -> None:
        """`entry_id` is pending with `consumer` from now on, whoever had it before."""
        self.forget(entry_id)
        pending = Pending(consumer, now_ms, count)
        self.pending.put(entry_id, pending)
        consumer.pending.put(entry_id, pending)

    def forget(self, entry_id: Id) -> bool:
        """`entry_id` is pending no more; False if it was not."""
        pending = self.pending.pop(entry_id)
        if pending is not None:
            pending.consumer.pending.pop(entry_id)
        return pending is not None


class Stream:
    """Entries in the order of their ids, and the groups that read them."""

    def __init__(self) -> None:
        #: Field, value, ... of each entry.
        self.entries: IdMap[list[bytes]] = IdMap()
        self.groups: dict[bytes, Group] = {}
        self.last_id = ZERO
        self.max_deleted = ZERO
        self.added = 0

    def next_id(self, now_ms: int) -> Id:
        """The id of an entry that is added now: never below the last one."""
        ms, number = self.last_id
        return (ms, number + 1) if now_ms <= ms else (now_ms, 0)

    def add(self, entry_id: Id, fields: list[bytes]) -> None:
        self.entries.put(entry_id, fields)
        self.last_id = entry_id
        self.added += 1

    def delete(self, entry_id: Id) -> bool:
        """Drops an entry; whoever has it pending keeps it pending."""
        if self.entries.pop(entry_id) is None:
            return False
        self.max_deleted = max(self.max_deleted, entry_id)
        return True

    def trim(self, *, maxlen: int | None, minid: Id | None, exact: bool) -> int:
        """Drops the oldest entries; returns how many. They do not count as deleted."""
        if maxlen is not None:
            surplus = max(0, len(self.entries) - maxlen)
        else:
            surplus = sum(1 for _ in self.entries.range(ZERO, minid or ZERO))
            surplus -= int(minid in self.entries) if minid is not None else 0
        if not exact:
            surplus -= surplus % BLOCK
        dropped = [entry_id for entry_id, _ in self.entries.range(ZERO, MAX_ID)][:surplus]
        for entry_id in dropped:
            self.entries.pop(entry_id)
        return surplus

    def has_holes(self, after: Id) -> bool:
        """Whether an entry at or behind `after` may have been deleted."""
        return bool(self.entries) and self.max_deleted != ZERO and after <= self.max_deleted

    def position(self, entry_id: Id) -> int | None:
        """How many entries were ever added up to `entry_id`; None if that cannot be known."""
        if not self.added:
            return 0
        first = self.entries.first
        if first is None:
            return self.added if entry_id <= self.last_id else None
        if entry_id != ZERO and entry_id < self.max_deleted:
            return None
        if entry_id >= self.last_id:
            return self.added if entry_id == self.last_id else None
        if self.max_deleted == ZERO or self.max_deleted < first:
            if entry_id < first:
                return self.added - len(self.entries)
            if entry_id == first:
                return self.added - len(self.entries) + 1
        return None

    def lag(self, group: Group) -> int | None:
        """How many entries `group` has not read; None if that cannot be known."""
        if not self.added:
            return 0
        if group.entries_read is not None and not self.has_holes(group.last_id):
            return self.added - group.entries_read
        read = self.position(group.last_id)
        return None if read is None else self.added - read
