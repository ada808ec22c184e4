"""A naive model of gates: what may run now, found by looking at every entry of every key."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from streamatiq.broker.claimed import Claimed
from streamatiq.broker.gatekeeping import Gatekeeper
from streamatiq.broker.gates import Gates
from streamatiq.broker.guard_state import Subject
from streamatiq.broker.keys import Keys
from streamatiq.broker.sources import AuditLevel, Source

__all__ = ["ME", "SOURCES", "Clock", "Doors", "Entry", "State", "World", "describe", "source"]

ME = "me"


def source(number: int) -> Source:
    keys = Keys("unit").log("model", str(number)).subscription("s")
    return Source(f"log:model:{number}", "s", keys, None, None, AuditLevel.OFF, ordered=True)


SOURCES = (source(0), source(1))


class State(Enum):
    """Where an entry is."""

    UNREAD = "unread"
    WAITING = "waiting"
    RUNNING = "running"
    #: It will be fetched again: parked, or handed back.
    AWAY = "away"
    #: Another process runs it, or this one does since before it gave the partition up.
    ELSEWHERE = "elsewhere"
    ENDED = "ended"


@dataclass(eq=False)
class Entry:
    source: Source
    number: int
    #: None: it cannot be decoded.
    key: str | None
    state: State = State.UNREAD
    cap: int = 0
    claimed: Claimed | None = None

    @property
    def gate(self) -> tuple[Source, str]:
        return self.source, self.key if self.key is not None else f"\0{self.entry_id.decode()}"

    @property
    def entry_id(self) -> bytes:
        return b"%d-%d" % (1000 + self.number // 12, self.number % 12)

    def claim(self) -> Claimed:
        return Claimed(
            self.source, ME, self.entry_id, [b"d", b"x"], None, 0, key=self.key, cap=self.cap
        )


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Doors:
    """Closes keys, until a time or until they are opened."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.closed: dict[str, float] = {}

    @property
    def quiet(self) -> bool:
        return not self.closed

    def admit(self, subject: Subject) -> float | None:
        until = self.closed.get(subject.key)
        return None if until is None or until <= self._clock.now else until

    def closed_until(self, subject: Subject) -> float | None:
        return self.admit(subject)


def describe(claimed: Claimed) -> Subject:
    return Subject("s", "s", claimed.key or "", (), False)


@dataclass
class World:
    """The gates, and all entries of two partitions, in log order."""

    conflate: bool = False
    entries: list[Entry] = field(default_factory=list)
    owned: set[Source] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.doors = Doors(self.clock)
        self.gates = Gates(
            Gatekeeper(self.doors, describe), conflate=self.conflate, clock_s=self.clock
        )

    def of(self, *states: State) -> list[Entry]:
        return [one for one in self.entries if one.state in states]

    def by_claim(self, claimed: Claimed) -> Entry:
        (found,) = [
            one
            for one in self.entries
            if one.source is claimed.source and one.entry_id == claimed.entry_id
        ]
        return found

    def before(self, entry: Entry) -> list[Entry]:
        """Those of its key that stand before it and have not ended."""
        return [
            one
            for one in self.entries
            if one.gate == entry.gate
            and one.number < entry.number
            and one.state not in (State.ENDED, State.UNREAD)
        ]

    def runs(self, gate: tuple[Source, str]) -> bool:
        """Whether an entry of the key runs in this process."""
        return any(
            one.gate == gate and (one.state is State.RUNNING or one.claimed is not None)
            for one in self.entries
        )

    def may_run(self, entry: Entry) -> bool:
        """Whether it may be taken alone now, guards aside."""
        return (
            entry.state is State.WAITING and not self.runs(entry.gate) and (not self.before(entry))
        )

    def is_stopped(self, entry: Entry) -> bool:
        return not self.doors.quiet and self.doors.admit(describe(entry.claim())) is not None
