"""The model: what a server should hold, in plain Python.

Entries are objects until the server's ids are known: `bind` learns them from a snapshot that
agrees. `differences` compares everything with a snapshot and says what is wrong, in words.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.integration.state_machine.shapes import Layout
from tests.integration.state_machine.snapshot import Observed, Snapshot
from tests.integration.state_machine.standings import Standings

from streamatiq.broker.keys import LogKeys

__all__ = ["FREE", "Answered", "Delayed", "Due", "Entry", "Ids", "Model", "Pending", "SourceState"]

#: Owner of what nobody holds.
FREE = "__free__"
#: Slack between the clock's reading and a script's rounding, ms.
ROUNDING_MS = 2.0


@dataclass(eq=False, slots=True)
class Entry:
    """One stream entry."""

    payload: bytes
    #: Empty until a snapshot has shown it.
    entry_id: bytes = b""


@dataclass(slots=True)
class Due:
    """Due so many milliseconds after the script's moment, which only the server knows."""

    delay_ms: float


@dataclass(slots=True)
class Pending:
    owner: str
    deliveries: int


@dataclass(frozen=True, slots=True)
class Answered:
    """The last batch of a writer. A copy of the model has the same: its sources are compared by
    identity."""

    number: int
    outcome: object

    def __deepcopy__(self, memo: object) -> Answered:
        return self


@dataclass(slots=True)
class Delayed:
    """A delayed message."""

    due: float | Due
    message: bytes


@dataclass(slots=True)
class Ids:
    """A window of ids: young and old ones. `aged`: the next use rotates it."""

    young: dict[bytes, Entry | None] = field(default_factory=dict)
    old: dict[bytes, Entry | None] = field(default_factory=dict)
    aged: bool = False

    def rotate(self) -> None:
        if self.aged and self.young:
            self.old, self.young = self.young, {}
        self.aged = False

    def forget(self) -> None:
        """Both hashes have expired."""
        self.young, self.old, self.aged = {}, {}, False

    def __contains__(self, one: bytes) -> bool:
        return one in self.young or one in self.old


@dataclass(slots=True)
class SourceState:
    """One stream as one group sees it."""

    unread: list[Entry] = field(default_factory=list)
    pending: dict[Entry, Pending] = field(default_factory=dict)
    parked: dict[Entry, float | Due] = field(default_factory=dict)
    options: dict[Entry, bytes] = field(default_factory=dict)
    suspects: dict[Entry, None] = field(default_factory=dict)
    running: bytes = b""
    marks: Ids = field(default_factory=Ids)
    #: Of business keys; the lanes of a queue share them.
    keys: Standings = field(default_factory=Standings)
    owner: str = ""
    epoch: int = 0
    token: int = 0

    def held(self, entry_id: bytes) -> Entry | None:
        """The pending entry of this id."""
        return next((one for one in self.pending if one.entry_id == entry_id), None)


class Model:
    """What the server should hold of one namespace."""

    def __init__(self, layout: Layout, logs: dict[str, LogKeys]) -> None:
        sources = [(group, one) for group in layout.groups for one in layout.sources[group]]
        self.streams: dict[str, list[Entry]] = {one.keys.entries: [] for _, one in sources}
        self.ids = {key: Ids() for key in logs}
        self.layout = layout
        self.sources = {(one.keys.entries, group): SourceState() for group, one in sources}
        for queue in layout.work:
            lanes = [self.sources[one.keys.entries, queue] for one in layout.sources[queue]]
            for lane in lanes[1:]:
                lane.keys = lanes[0].keys
        #: Who shares the partitions of a subscription.
        self.claimants: dict[str, set[str]] = {group: set() for group in layout.owned}
        #: What was settled, in order: stream, group, entry, outcome.
        self.settled: list[tuple[str, str, Entry, str]] = []
        self.delayed: dict[str, dict[str, Delayed]] = {name: {} for name in layout.work}
        self.dead: dict[str, list[tuple[bytes, str]]] = {one.keys.dead: [] for _, one in sources}
        self.audit: dict[str, list[tuple[str, int, int]]] = {
            one.keys.audit: [] for _, one in sources if one.is_log
        }
        self.cancelled: dict[str, set[str]] = {name: set() for name in layout.work}
        self.alive: set[str] = set()
        self.reads: dict[str, set[str]] = {}
        self.lease = ""
        self.fences: set[str] = set()
        #: Outcomes of calls that managed dead letters, by their key.
        self.operators: dict[str, list[str]] = {}
        #: The last settle batch by its key.
        self.batches: dict[str, Answered] = {}
        #: Logs (entries key) that cannot be added to, and what the settle script says of them.
        self.misplaced: dict[str, str] = {}
        self.seen_ms = 0.0

    def readers(self, stream: str) -> Iterator[SourceState]:
        """All groups of one stream."""
        return (state for (key, _), state in self.sources.items() if key == stream)

    def __deepcopy__(self, memo: dict[int, object]) -> Model:
        memo[id(self.layout)] = self.layout
        new = copy.copy(self)
        for name, value in vars(self).items():
            setattr(new, name, copy.deepcopy(value, memo))
        return new

    def append(self, stream: str, payload: bytes) -> Entry:
        """A new entry, unread for every group."""
        entry = Entry(payload)
        self.streams[stream].append(entry)
        for state in self.readers(stream):
            state.unread.append(entry)
        return entry

    # -- compared with the server --------------------------------------------------------------

    def differences(self, seen: Snapshot) -> list[str]:
        """What the server holds otherwise than it should; empty when all is well."""
        wrong: list[str] = []
        names: dict[Entry, bytes] = {}
        for key, entries in self.streams.items():
            should, are = [one.payload for one in entries], seen.streams[key]
            if should != [payload for _, payload in are]:
                wrong.append(f"{key}: has {are}, should have {should}")
                continue
            names.update(zip(entries, (one for one, _ in are), strict=True))
            wrong += [
                f"{key}: {one.entry_id!r} became {names[one]!r}"
                for one in entries
                if one.entry_id not in (b"", names[one])
            ]
        if wrong:
            return wrong

        def name(one: Entry) -> bytes:
            return names.get(one, one.entry_id)

        for key, ids in self.ids.items():
            _compare(wrong, f"{key} ids", seen.ids[key], (set(ids.young), set(ids.old)))
        for at, state in self.sources.items():
            wrong += [f"{at}: {one}" for one in self._source(state, seen.sources[at], seen, name)]
        for queue, members in self.delayed.items():
            shown = seen.delayed[queue]
            messages = {member: one.message for member, one in members.items()}
            _compare(wrong, f"{queue} delayed", {m: one[1] for m, one in shown.items()}, messages)
            for member in members.keys() & shown.keys():
                if not self._in_time(members[member].due, shown[member][0], seen):
                    wrong.append(f"{queue}: {member} is due at {shown[member][0]}")
        _compare(wrong, "cancelled", seen.cancelled, self.cancelled)
        _compare(wrong, "dead letters", seen.dead, self.dead)
        _compare(wrong, "audit", seen.audit, self.audit)
        _compare(wrong, "alive", seen.alive, self.alive)
        _compare(wrong, "reads", seen.reads, self.reads)
        _compare(wrong, "lease", seen.lease, self.lease)
        _compare(wrong, "fences", seen.fences, self.fences)
        _compare(wrong, "claimants", seen.claimants, self.claimants)
        return wrong

    def _source(
        self, state: SourceState, seen: Observed, at: Snapshot, name: Callable[[Entry], bytes]
    ) -> list[str]:
        wrong: list[str] = []
        _compare(wrong, "unread", seen.unread, [name(one) for one in state.unread])
        pending = {name(one): (held.owner, held.deliveries) for one, held in state.pending.items()}
        _compare(wrong, "pending", seen.pending, pending)
        parked = {name(one): due for one, due in state.parked.items()}
        if parked.keys() != seen.parked.keys() or not all(
            self._in_time(due, seen.parked[one], at) for one, due in parked.items()
        ):
            wrong.append(f"parked: is {seen.parked}, should be {parked}")
        options = {name(one): text for one, text in state.options.items()}
        _compare(wrong, "options", seen.options, options)
        _compare(wrong, "suspects", seen.suspects, {name(one) for one in state.suspects})
        _compare(wrong, "running suspect", seen.running, state.running)
        marks = (set(state.marks.young), set(state.marks.old))
        _compare(wrong, "done marks", seen.marks, marks)
        _compare(wrong, "business keys", seen.keys, (state.keys.young, state.keys.old))
        owned = (state.owner, state.epoch, state.token)
        _compare(wrong, "owner, epoch, token", (seen.owner, seen.epoch, seen.token), owned)
        return wrong

    def _in_time(self, due: float | Due, shown: float, seen: Snapshot) -> bool:
        if not isinstance(due, Due):
            return abs(due - shown) < 1e-3
        first, last = self.seen_ms + due.delay_ms, seen.now_ms + due.delay_ms
        return first - ROUNDING_MS <= shown <= last + ROUNDING_MS

    def bind(self, seen: Snapshot) -> None:
        """Learns ids and due times from a snapshot without differences."""
        for key, entries in self.streams.items():
            for entry, (entry_id, _) in zip(entries, seen.streams[key], strict=True):
                entry.entry_id = entry_id
        for at, state in self.sources.items():
            for entry, due in state.parked.items():
                if isinstance(due, Due):
                    state.parked[entry] = seen.sources[at].parked[entry.entry_id]
        for queue, members in self.delayed.items():
            for member, one in members.items():
                if isinstance(one.due, Due):
                    one.due = seen.delayed[queue][member][0]
        self.seen_ms = seen.now_ms


def _compare(wrong: list[str], what: str, is_: object, should: object) -> None:
    if is_ != should:
        wrong.append(f"{what}: is {is_!r}, should be {should!r}")
