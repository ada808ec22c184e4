"""Owners, fencing tokens and reservations: their scripts told a second time; see `reference`."""

from __future__ import annotations

from collections.abc import Sequence

from tests.integration.state_machine.model import FREE, Due, Entry, Model, Pending
from tests.integration.state_machine.snapshot import entry_order
from tests.integration.state_machine.standings import Wanting

from streamatiq.broker.reservations import Standing
from streamatiq.broker.sources import Source

__all__ = ["Partitions"]


class Partitions(Model):
    """The model, and these scripts' effects on it."""

    def own(self, source: Source, consumer: str) -> tuple[object, ...]:
        """Returns what own.lua does: epoch, last entry read, expected, elsewhere."""
        state = self.sources[source.keys.entries, source.group]
        if source.keys.fence(consumer) in self.fences:
            return ("FENCED",)
        if state.owner not in ("", consumer):
            return (state.owner,)
        if not state.owner:
            state.owner = consumer
            state.epoch += 1
        read = [one for one in self.streams[source.keys.entries] if one not in state.unread]
        waits = {
            one.entry_id
            for one, due in state.parked.items()
            if isinstance(due, Due) or abs(due - back_score(one)) > 1e-6
        }
        elsewhere = {
            one.entry_id: held.owner for one, held in state.pending.items() if held.owner != FREE
        }
        expected = waits | {one.entry_id for one in state.suspects}
        return (state.epoch, read[-1].entry_id if read else b"0-0", expected, elsewhere)

    def disown(self, source: Source, consumer: str) -> int:
        state = self.sources[source.keys.entries, source.group]
        if state.owner != consumer:
            return 0
        state.owner = ""
        return 1

    def resign(self, group: str, consumer: str) -> int:
        """It wants no share; returns whether anybody is woken."""
        there = consumer in self.claimants.get(group, ())
        if there:
            self.claimants[group].discard(consumer)
        return int(there or not consumer)

    def share(self, group: str) -> set[str]:
        """Drops claimants that do not live; returns the others."""
        self.claimants[group] &= self.alive
        return set(self.claimants[group])

    def whereabouts(self, source: Source, ids: Sequence[bytes]) -> list[str]:
        """Who has these entries."""
        state = self.sources[source.keys.entries, source.group]
        held = [state.held(one) for one in ids]
        return ["" if one is None else state.pending[one].owner for one in held]

    def next_token(self, source: Source, consumer: str, entry_id: bytes) -> int | str:
        state = self.sources[source.keys.entries, source.group]
        if source.keys.fence(consumer) in self.fences:
            return "FENCED"
        if not self._has(source, consumer, entry_id):
            return "GONE"
        state.token += 1
        return state.token

    def reserve(
        self, source: Source, consumer: str, wants: Sequence[Wanting]
    ) -> list[tuple[Standing, str]]:
        """What becomes of each: outcome, and what stood there."""
        if source.keys.fence(consumer) in self.fences:
            return [(Standing.FENCED, "")] * len(wants)
        keys = self.sources[source.keys.entries, source.group].keys
        keys.rotate()
        busy = {
            one.entry_id.decode() + suffix(lane)
            for lane in self.layout.sources[source.group]
            if source.keys.keys == lane.keys.keys
            for one in self.sources[lane.keys.entries, lane.group].pending
        }
        return [
            keys.reserve(one, busy)
            if self._has(source, consumer, one.entry.partition(".")[0].encode())
            else (Standing.GONE, "")
            for one in wants
        ]

    def requeue(
        self, source: Source, token: str, by: str, letters: Sequence[tuple[bytes, bytes]]
    ) -> list[str]:
        """Letters, by entry and event id, run again; `token` names the call."""
        if token not in self.operators:
            self.operators[token] = [self._requeue(source, by, *one) for one in letters]
        return self.operators[token]

    def _requeue(self, source: Source, by: str, entry_id: bytes, event_id: bytes) -> str:
        letters = self.dead[source.keys.dead]
        letter = next((one for one in letters if one[0] == entry_id), None)
        if letter is None:
            return "gone"
        state = self.sources[source.keys.entries, source.group]
        if state.held(entry_id) is not None:
            return "pending"
        entry = next(one for one in self.streams[source.keys.entries] if one.entry_id == entry_id)
        state.pending[entry] = Pending(FREE, 0)
        state.parked[entry] = back_score(entry)
        state.options.pop(entry, None)
        state.marks.young.pop(event_id, None)
        state.marks.old.pop(event_id, None)
        self.audit[source.keys.audit].append((by, 0, 0))
        letters.remove(letter)
        return "requeued"

    def _has(self, source: Source, consumer: str, entry_id: bytes) -> bool:
        state = self.sources[source.keys.entries, source.group]
        held = state.held(entry_id)
        return held is not None and state.pending[held].owner == consumer


def suffix(source: Source) -> str:
    """Where a queue's lane stands in the name of a holder of a key."""
    return "" if source.is_log else "." + source.keys.entries.rpartition(".")[2]


def back_score(one: Entry) -> float:
    """The due time of an entry that is handed back: its own."""
    ms, sequence = entry_order(one.entry_id)
    return round(ms + min(sequence, 4095) / 4096, 6)
