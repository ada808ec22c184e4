"""Publishers that stand in for a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from streamatiq.errors import BacklogFull
from streamatiq.events import Event


@dataclass(frozen=True)
class Stored:
    """A receipt."""

    duplicate: bool


@dataclass
class FakeLog:
    """Publishes into a list, and knows ids for ever."""

    batches: list[list[Event]] = field(default_factory=list)
    ids: set[UUID] = field(default_factory=set)
    #: Number of the call that fails, from 1.
    fails_at: int | None = None
    #: How many more events find room; None: all.
    room: int | None = None

    def publish(self, events: Sequence[Event], /) -> list[Stored]:
        self.batches.append(list(events))
        if len(self.batches) == self.fails_at:
            raise ConnectionError("gone")
        fit = len(events) if self.room is None else min(self.room, len(events))
        receipts = [Stored(event.id in self.ids) for event in events[:fit]]
        self.ids.update(event.id for event in events[:fit])
        if fit < len(events):
            self.room = 0
            left = events[fit:]
            raise BacklogFull("full", receipts=receipts, left=left, accepted=fit)
        if self.room is not None:
            self.room -= fit
        return receipts

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch]
