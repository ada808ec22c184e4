"""The settle script, told a second time: see `reference`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tests.integration.state_machine.model import FREE, Answered, Due, Entry, SourceState

from streamatiq.broker.settlements import (
    DONE,
    BatchOutcome,
    DeadLetter,
    Ended,
    HandBack,
    Park,
    Problem,
    Settlement,
)
from streamatiq.broker.sources import Source

if TYPE_CHECKING:
    from tests.integration.state_machine.reference import Reference

__all__ = ["STALE", "settle"]

#: What a batch gets that comes after a later one.
STALE = "stale"


def settle(model: Reference, writer: str, number: int, batch: Sequence[Settlement]) -> object:
    """Ends a batch of deliveries; returns its outcome, or `STALE`."""
    key = batch[0].source.keys.batch(writer)
    last = model.batches.get(key)
    if last is not None and last.number >= number:
        return last.outcome if last.number == number else STALE
    groups: dict[tuple[Source, str], list[Settlement]] = {}
    for one in batch:
        groups.setdefault((one.source, one.consumer), []).append(one)
    outcome = BatchOutcome()
    # For one of them means for all.
    dead = {consumer for source, consumer in groups if model.is_fenced(source, consumer)}
    for (source, consumer), members in groups.items():
        if consumer in dead:
            outcome.fenced.append((source, consumer))
            continue
        outcome.problems += _Group(model, source, consumer).settle(members)
        if source.is_log:
            model.audit[source.keys.audit].append((consumer, number, len(members)))
    model.batches[key] = Answered(number, outcome)
    return outcome


class _Group:
    """The deliveries of one source and consumer in a batch."""

    def __init__(self, model: Reference, source: Source, consumer: str) -> None:
        self.model, self.source, self.consumer = model, source, consumer
        self.state: SourceState = model.sources[source.keys.entries, source.group]
        self.problems: list[Problem] = []
        self.settled: list[Settlement] = []
        self.parks: list[Settlement] = []
        self.failed: set[bytes] = set()

    def settle(self, members: Sequence[Settlement]) -> list[Problem]:
        plain = [one for one in members if _is_plain(one)]
        self.settled += plain
        if self.source.is_log:
            self.state.marks.rotate()
        for one in members:
            if not _is_plain(one):
                self._special(one)
        self._end(members)
        return self.problems

    def _special(self, one: Settlement) -> None:
        action = one.action
        marked = self.source.is_log and not isinstance(action, HandBack) and bool(one.event_id)
        duplicate = marked and one.event_id in self.state.marks
        broken = [
            self.model.misplaced[emit.log.entries]
            for emit in one.emits
            if emit.log.entries in self.model.misplaced
        ]
        own = not isinstance(action, Ended) or bool(one.messages)
        gone = bool(broken) or (own and not self._is_held(one))
        if not duplicate and not gone:
            for _ in range(self.model.caused(one.emits, one.messages)):
                self._problem(one.entry_id, "CANCELLED")
        if duplicate:
            self._problem(one.entry_id, "DUPLICATE")
            self.settled.append(one)
            self._forget_options(one.entry_id)
        elif gone:
            pass
        elif isinstance(action, Park | HandBack):
            self.parks.append(one)
        else:
            if isinstance(action, DeadLetter):
                cause = dict(zip(action.fields[::2], action.fields[1::2], strict=True))["cause"]
                self.model.dead[self.source.keys.dead].append((one.entry_id, cause))
            self.settled.append(one)
        if gone:
            self._problem(one.entry_id, broken[0] if broken else "GONE")
            self.failed.add(one.entry_id)

    def _end(self, members: Sequence[Settlement]) -> None:
        acked = 0
        for one in self.settled:
            if self.source.is_log and one.event_id:
                self.state.marks.young[one.event_id] = None
            entry = self.state.held(one.entry_id)
            if entry is not None:
                acked += 1
                self.model.drop(self.source, self.state, entry)
        if acked < len(self.settled):
            self._problem(b"", "GONE")
        for one in members:
            drops = one.has_options and isinstance(one.action, Ended | DeadLetter)
            if drops and one.entry_id not in self.failed:
                self._forget_options(one.entry_id)
        for one in self.parks:
            self._park(one)

    def _park(self, one: Settlement) -> None:
        entry = self.state.held(one.entry_id)
        if entry is None:
            self._problem(one.entry_id, "GONE")
            return
        pending = self.state.pending[entry]
        pending.owner, pending.deliveries = FREE, 0
        if isinstance(one.action, Park):
            self.state.parked[entry] = Due(one.action.delay_ms)
            if one.action.options:
                self.state.options[entry] = one.action.options
        else:
            self.state.parked[entry] = self.model.back_score(entry)

    def _forget_options(self, entry_id: bytes) -> None:
        for entry in [one for one in self.state.options if one.entry_id == entry_id]:
            del self.state.options[entry]

    def _is_held(self, one: Settlement) -> bool:
        entry: Entry | None = self.state.held(one.entry_id)
        return entry is not None and self.state.pending[entry].owner == self.consumer

    def _problem(self, entry_id: bytes, text: str) -> None:
        self.problems.append(Problem(self.source, entry_id, text))


def _is_plain(one: Settlement) -> bool:
    return one.action is DONE and not one.emits and not one.messages
