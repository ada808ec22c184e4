"""What was promised to whom, kept apart from the model of the scripts.

The model says what the server's keys should hold; the ledger says what users were told: accepted,
handled, committed. At the end of an example the promises of `docs/guarantees.md` are read off it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pydantic_core import from_json
from tests.integration.state_machine.snapshot import payload
from tests.integration.state_machine.world import Example

from streamatiq.broker.delivery import Delivery
from streamatiq.broker.settlements import (
    RETRIED,
    BatchOutcome,
    DeadLetter,
    Ended,
    Settlement,
)

__all__ = ["Ledger", "unit_of"]


def unit_of(data: bytes) -> str:
    """What a payload is about: an event's id, a message's id, or the bytes themselves."""
    try:
        fields = from_json(data)
        return str(fields.get("message_id") or fields["id"])
    except ValueError:
        return data.decode("latin-1")


@dataclass
class Ledger:
    """Units are events' ids, messages' ids, or the bytes of what is neither."""

    #: Published: event id -> event type.
    events: dict[str, str] = field(default_factory=dict)
    #: Enqueued by a producer or after a delivery: message id -> queue.
    messages: dict[str, str] = field(default_factory=dict)
    garbage: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    flushed: set[str] = field(default_factory=set)
    #: (group, unit) that were handed to a handler.
    ran: set[tuple[str, str]] = field(default_factory=set)
    #: (group, unit) whose end was committed.
    ended: set[tuple[str, str]] = field(default_factory=set)
    #: Emitted event ids whose delivery was committed, and those that were tried.
    committed: set[str] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)
    #: Batches whose outcome is not known yet.
    open: list[Sequence[Settlement]] = field(default_factory=list)

    def handed_out(self, deliveries: Sequence[Delivery]) -> None:
        self.ran |= {(one.source.group, unit_of(one.data)) for one in deliveries}

    def settled(
        self, units: dict[tuple[str, bytes], str], batch: Sequence[Settlement], said: BatchOutcome
    ) -> None:
        """The server has answered. `units`: (stream, entry id) -> unit."""
        problems = {
            (one.source.name, one.source.group, one.entry_id): one.text for one in said.problems
        }
        for one in batch:
            unit = units[one.source.keys.entries, one.entry_id]
            self.tried |= {str(_uuid(emit.event_id)) for emit in one.emits}
            text = problems.get((one.source.name, one.source.group, one.entry_id), "")
            if (one.source, one.consumer) in said.fenced or text.startswith(("GONE", "WRONGTYPE")):
                continue
            if text == "DUPLICATE":
                self.ended.add((one.source.group, unit))
                continue
            self.committed |= {str(_uuid(emit.event_id)) for emit in one.emits}
            for message in one.messages:
                self.messages.setdefault(
                    message.member.partition(":")[2], _queue(message.target.entries)
                )
            if isinstance(one.action, Ended | DeadLetter) and one.action is not RETRIED:
                self.ended.add((one.source.group, unit))

    def check(self, example: Example) -> None:
        """All is drained: was every promise kept?"""
        wrong: list[str] = []
        dead = _dead_letters(example, wrong)
        logs = {key: _events(example, key) for key in example.log_keys}
        stored = Counter(unit for units in logs.values() for unit in units)
        for unit in self.events:
            if unit not in stored:
                wrong.append(f"event {unit} was accepted and is in no log")
        for unit in self.committed:
            if stored[unit] != 1:
                wrong.append(f"effect {unit} was committed and stands in logs {stored[unit]} times")
        for unit in self.tried - self.committed:
            if unit in stored:
                wrong.append(f"effect {unit} was not committed and is in a log")
        for unit in stored.keys() - self.events.keys() - self.committed - self.garbage:
            wrong.append(f"event {unit} is in a log, and nobody has published it")
        for one in example.layout.subscriptions:
            names = {cls.event_type for cls in one.event_classes}
            for key, units in logs.items():
                if key.split(":")[2] in names:
                    for unit in units:
                        if not {(one.name, unit)} & (self.ended | dead):
                            wrong.append(f"{unit} was never handled by {one.name}")
        for unit, queue in self.messages.items():
            if (
                not {(queue, unit)} & (self.ended | dead)
                and unit not in self.cancelled | self.flushed
            ):
                wrong.append(f"message {unit} of {queue} is lost")
        known = stored.keys() | self.messages.keys() | self.garbage
        for group, unit in self.ran:
            if unit not in known:
                wrong.append(f"{group} has run {unit}, which nobody has sent")
        assert not wrong, "\n".join(wrong)


def _events(example: Example, key: str) -> list[str]:
    entries: Any = example.admin.xrange(key)
    return [unit_of(payload(fields)) for _, fields in entries]


def _dead_letters(example: Example, wrong: list[str]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for group in example.layout.groups:
        for key in {source.keys.dead for source in example.layout.sources[group]}:
            letters: Any = example.admin.xrange(key)
            for dead_id, fields in letters:
                found.add((group, unit_of(fields[b"data"])))
                if not fields[b"cause"] or not fields[b"source"] or not fields[b"entry"]:
                    wrong.append(f"dead letter {dead_id!r} of {group} has no cause: {fields}")
    return found


def _queue(entries: str) -> str:
    return entries.split(":q:")[1].split("}")[0]


def _uuid(event_id: bytes) -> UUID:
    return UUID(bytes=event_id)
