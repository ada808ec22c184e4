"""What each script should do, told a second time: in Python, on the model.

Written from the headers of the scripts and the promises of `docs/guarantees.md`. Where a script is
changed on purpose, this is changed with it; where the two disagree otherwise, one of them is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tests.integration.state_machine.model import (
    FREE,
    Delayed,
    Due,
    Entry,
    Pending,
    SourceState,
)
from tests.integration.state_machine.partitions import Partitions, back_score
from tests.integration.state_machine.settling import settle
from tests.integration.state_machine.snapshot import entry_order

from streamatiq.broker.keys import LogKeys
from streamatiq.broker.settlements import Emit, Enqueue, Settlement
from streamatiq.broker.sources import Source

__all__ = ["Reference", "Taken", "ms"]

#: What a fetch takes of one source: the entries, and their retry state if they were parked.
Taken = tuple[Source, list[Entry], list[bytes | None]]


class Reference(Partitions):
    """The model, and the scripts' effects on it."""

    def publish(self, log: LogKeys, events: Sequence[tuple[bytes, bytes]]) -> list[Entry]:
        """Appends (event id, payload) pairs that are not known; returns everyone's entry."""
        self.ids[log.entries].rotate()
        return [self.emit(log, one, payload) for one, payload in events]

    def emit(self, log: LogKeys, event_id: bytes, payload: bytes) -> Entry:
        ids = self.ids[log.entries]
        ids.rotate()
        known = ids.young.get(event_id) or ids.old.get(event_id)
        if known is None:
            known = ids.young[event_id] = self.append(log.entries, payload)
        return known

    def enqueue(self, queue: str, messages: Sequence[Enqueue], *, lifts: bool = False) -> None:
        """Adds messages to a queue. `lifts`: they are not cancelled any more."""
        for one in messages:
            if lifts:
                self.cancelled[queue].discard(one.member.partition(":")[2])
            if one.delay_ms < 0:
                self.append(one.target.entries, one.message)
            else:
                self.delayed[queue][one.member] = Delayed(Due(one.delay_ms), one.message)

    def enlist(self, consumer: str, queue: str) -> None:
        self.alive.add(consumer)
        self.reads.setdefault(consumer, set()).add(queue)

    def is_fenced(self, source: Source, consumer: str) -> bool:
        return source.keys.fence(consumer) in self.fences

    # -- fetch ---------------------------------------------------------------------------------

    def fetch(
        self,
        sources: Sequence[Source],
        queue: str | None,
        consumer: str,
        room: int,
        *,
        alone: bool = False,
        aged: Collection[int] = (),
        owned: bool = False,
        nothing_new: bool = False,
    ) -> list[Taken] | str:
        """Takes entries: due ones, then unread ones; or one suspect. Or the error.

        `aged`: places of the lanes that were passed over for long. `owned`: the sources must be its
        own, and of one that has more that is due nothing new is read.
        """
        for place, source in enumerate(sources, start=1):
            if self.is_fenced(source, consumer):
                return "FENCED"
            state = self.sources[source.keys.entries, source.group]
            if owned and state.owner != consumer:
                return f"LOST {place}"
        if queue is not None and not alone:
            self._promote(sources, queue)
        taken: list[Taken] = []
        states = [self.sources[one.keys.entries, one.group] for one in sources]
        if not alone:
            for source, state in zip(sources, states, strict=True):
                room -= self._take_due(source, state, consumer, room, taken)
        for source, state in zip(sources, states, strict=True):
            if alone and room > 0 and state.suspects and not self._one_runs(state):
                room -= self._take_suspect(source, state, consumer, taken)
        share = room // 4
        for place in aged:
            if not alone and min(share, room) > 0:
                room -= self.read(sources[place], consumer, min(share, room), taken)
        for source, state in zip(sources, states, strict=True):
            behind = owned and any(ms(due) <= self.seen_ms for due in state.parked.values())
            if not alone and not nothing_new and not behind and room > 0:
                room -= self.read(source, consumer, room, taken)
        return taken

    def read(self, source: Source, consumer: str, room: int, taken: list[Taken]) -> int:
        """Reads what nobody has read."""
        state = self.sources[source.keys.entries, source.group]
        fresh, state.unread = state.unread[:room], state.unread[room:]
        state.pending |= {one: Pending(consumer, 1) for one in fresh}
        if fresh:
            taken.append((source, fresh, [None] * len(fresh)))
        return len(fresh)

    def _promote(self, sources: Sequence[Source], queue: str) -> None:
        delayed = self.delayed[queue]
        due = sorted((ms(one.due), member) for member, one in delayed.items() if self._past(one))
        for _, member in due:
            message = delayed.pop(member).message
            if member.partition(":")[2] not in self.cancelled[queue]:
                self.append(sources[int(member[0]) - 1].keys.entries, message)

    def _past(self, one: Delayed) -> bool:
        return ms(one.due) <= self.seen_ms

    def _take_due(
        self, source: Source, state: SourceState, consumer: str, room: int, taken: list[Taken]
    ) -> int:
        if room <= 0:
            return 0
        order = sorted(
            (ms(due), one.entry_id, one)
            for one, due in state.parked.items()
            if ms(due) <= self.seen_ms
        )[:room]
        if not order:
            return 0
        due = [one for _, _, one in order]
        for one in due:
            del state.parked[one]
        claimed = [one for one in due if _claim(state, one, consumer)]
        taken.append((source, claimed, [state.options.get(one) for one in claimed]))
        return len(claimed)

    @staticmethod
    def _one_runs(state: SourceState) -> bool:
        running = state.held(state.running) if state.running else None
        return running is not None and state.pending[running].owner != FREE

    @staticmethod
    def _take_suspect(source: Source, state: SourceState, consumer: str, taken: list[Taken]) -> int:
        first = min(state.suspects, key=lambda one: entry_order(one.entry_id))
        del state.suspects[first]
        if not _claim(state, first, consumer):
            return 0
        state.running = first.entry_id
        taken.append((source, [first], [state.options.get(first)]))
        return 1

    # -- settle --------------------------------------------------------------------------------

    def settle(self, writer: str, number: int, batch: Sequence[Settlement]) -> object:
        """See `settling.settle`."""
        return settle(self, writer, number, batch)

    def caused(self, emits: Sequence[Emit], messages: Sequence[Enqueue]) -> int:
        """What a delivery's handling has caused; returns how many messages were cancelled."""
        for emit in emits:
            self.emit(emit.log, emit.event_id, emit.data)
        dropped = 0
        for one in messages:
            queue = self.queue_of(one)
            if one.member.partition(":")[2] in self.cancelled[queue]:
                dropped += 1
            else:
                self.enqueue(queue, [one])
        return dropped

    def queue_of(self, one: Enqueue) -> str:
        """The queue that a message goes to."""
        return next(name for name in self.delayed if f":q:{name}}}" in one.target.entries)

    # -- reclaim -------------------------------------------------------------------------------

    def reclaim(
        self, source: Source, consumer: str, *, fence: bool, max_deliveries: int, page: int
    ) -> tuple[int, int, int, bool]:
        """Takes a page of what `consumer` held; (handed back, suspects, dead, more)."""
        if fence:
            self.fences.add(source.keys.fence(consumer))
        state = self.sources[source.keys.entries, source.group]
        held = [one for one, pending in state.pending.items() if pending.owner == consumer]
        held = sorted(held, key=lambda one: entry_order(one.entry_id))[:page]
        counts = [0, 0, 0]
        for one in held:
            deliveries = state.pending[one].deliveries
            if deliveries >= max_deliveries:
                self.dead[source.keys.dead].append((one.entry_id, "killed_worker"))
                self.settled.append((source.keys.entries, source.group, one, "killed_worker"))
                self.drop(source, state, one)
                state.options.pop(one, None)
                counts[2] += 1
                continue
            state.pending[one].owner = FREE
            if deliveries >= 2:
                state.suspects[one] = None
                counts[1] += 1
            else:
                state.parked[one] = back_score(one)
                counts[0] += 1
        if len(held) < page and state.owner == consumer:
            state.owner = ""
        return counts[0], counts[1], counts[2], len(held) == page

    def forget(self, consumer: str) -> None:
        self.alive.discard(consumer)
        self.reads.pop(consumer, None)
        if self.lease == consumer:
            self.lease = ""

    def drop(self, source: Source, state: SourceState, one: Entry) -> None:
        """XACK, and XDEL in a work queue."""
        state.pending.pop(one, None)
        if not source.is_log:
            self.streams[source.keys.entries].remove(one)

    def flush(self, queue: str, sources: Sequence[Source]) -> int:
        """Empties a queue; returns how many messages were dropped."""
        dropped = len(self.delayed[queue])
        self.delayed[queue] = {}
        for source in sources:
            entries = self.streams[source.keys.entries]
            dropped += len(entries)
            entries.clear()
            state = self.sources[source.keys.entries, source.group]
            self.sources[source.keys.entries, source.group] = SourceState(
                running=state.running, keys=state.keys
            )
        return dropped


def _claim(state: SourceState, one: Entry, consumer: str) -> bool:
    pending = state.pending.get(one)
    if pending is None:
        return False
    pending.owner = consumer
    pending.deliveries += 1
    return True


def ms(due: float | Due) -> float:
    """A due time that the server has shown, ms."""
    assert not isinstance(due, Due), "a due time is used before the server has shown it"
    return due
