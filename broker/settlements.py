"""What is asked of the settle script for one delivery, and how a batch of it is put on the wire."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from . import audit
from .calls import Call, script
from .in_flight import Held
from .keys import LogKeys
from .scripts import EnqueueTarget
from .sources import Source

__all__ = [
    "CANCELLED",
    "CONFLATED",
    "DONE",
    "DUPLICATE",
    "EXPIRED",
    "FILTERED",
    "HAND_BACK",
    "NO_TIMES",
    "RETRIED",
    "SKIPPED",
    "TRIMMED",
    "Action",
    "BatchOutcome",
    "BusinessKey",
    "DeadLetter",
    "Emit",
    "Ended",
    "Enqueue",
    "HandBack",
    "Park",
    "Problem",
    "Settlement",
    "StateWrite",
    "Times",
    "settle",
]


class Emit(NamedTuple):
    """An event to append to a log with the settle."""

    log: LogKeys
    event_id: bytes
    data: bytes


class Enqueue(NamedTuple):
    """A message to add to a work queue with the settle; delay_ms -1 = now."""

    target: EnqueueTarget
    delay_ms: int
    member: str
    message: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """The entry is settled; `outcome` is what the audit calls it."""

    outcome: str
    kind: str = "E"


@dataclass(frozen=True, slots=True)
class Park:
    """Keep pending, aside, for `delay_ms`. `options` is the retry state to restore then; empty
    options keep what is stored."""

    delay_ms: int
    options: bytes
    outcome: str = "parked"
    kind: str = "P"


@dataclass(frozen=True, slots=True)
class HandBack:
    """Give back unhandled: another consumer takes it before unread entries."""

    outcome: str = "handed_back"
    kind: str = "B"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """End in the dead-letter stream; `fields` are the stream entry's field, value, ..."""

    fields: Sequence[Any]
    outcome: str = "dead_lettered"
    kind: str = "D"


Action = Ended | Park | HandBack | DeadLetter

#: Handled.
DONE = Ended("done")
#: A message whose retry is among its settlement's messages.
RETRIED = Ended("retried")
HAND_BACK = HandBack()
#: A message that was cancelled before it was run.
CANCELLED = Ended("cancelled")
#: An event that was handled before, or whose business key was; it was not run again.
DUPLICATE = Ended("duplicate")
#: An event that was too old when its turn came.
EXPIRED = Ended("expired")
#: An event that a newer one of its key has replaced.
CONFLATED = Ended("conflated")
#: An event that the handler's `transform` does not want.
FILTERED = Ended("filtered")
#: A replayed event, whose handler is not for replays.
SKIPPED = Ended("skipped")
#: An event that its log does not have any more.
TRIMMED = Ended("trimmed")


class BusinessKey(NamedTuple):
    """What a delivery's end means for its business key."""

    key: str
    #: How long it is remembered at least, ms; 0: for ever.
    window_ms: int
    #: The run that reserved it; see `reservations`.
    run: str
    #: By what name its dead letter is known, if nobody knows whether it was done.
    name: bytes
    #: `d`: done; `f`: free again; `u`: nobody knows whether it was done.
    becomes: str


class StateWrite(NamedTuple):
    """A handler's state, as it is to be from this delivery's end on."""

    #: Field of the state hash: subscription and name.
    field: str
    #: With which token it was read; empty: there was none. If another one stands there at the
    #: settle, nothing of the delivery is committed.
    read_as: bytes
    #: A new token, and the bytes; empty: it was only read.
    value: bytes


class Times(NamedTuple):
    """When things happened to a delivery, ns, wall clock; 0 = did not happen, or not known."""

    published: int = 0
    appended: int = 0
    claimed: int = 0
    started: int = 0
    done: int = 0


NO_TIMES = Times()


@dataclass(slots=True, eq=False)
class Settlement:
    """How one delivery ends.

    Parameters:
      source: Where the entry stands.
      consumer: The consumer name under which it was claimed; if that was fenced, nothing happens.
      entry_id: The stream entry.
      event_id: 16 bytes for a log's event; empty for messages and undecodable entries.
      action: What to do.
      emits, messages: What the handling caused; committed with it.
      attempt: 1 for the first delivery.
      has_options: Whether retry state is stored that must go.
      times: For the audit.
      happened_ns: When the event happened, ns, by its own clock; 0 for messages.
      key: What becomes of its business key, if it has one.
      states: What the handler knew and changed of its state.
    """

    source: Source
    consumer: str
    entry_id: bytes
    event_id: bytes
    action: Action
    emits: Sequence[Emit] = ()
    messages: Sequence[Enqueue] = ()
    attempt: int = 1
    has_options: bool = False
    times: Times = NO_TIMES
    happened_ns: int = 0
    key: BusinessKey | None = None
    states: Sequence[StateWrite] = ()

    @property
    def held(self) -> Held:
        """The entry, as `InFlight` knows it."""
        return (self.source.keys.entries, self.source.group, self.consumer, self.entry_id)


class Problem(NamedTuple):
    """What the settle script says of one entry that did not go as asked."""

    source: Source
    entry_id: bytes
    text: str


@dataclass(slots=True)
class BatchOutcome:
    """What became of a batch."""

    fenced: list[tuple[Source, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class _Targets:
    """Numbers the logs and queues that a batch adds to, from 1, and collects their keys."""

    def __init__(self) -> None:
        self.logs: dict[LogKeys, int] = {}
        self.queues: dict[EnqueueTarget, int] = {}

    def log(self, log: LogKeys) -> int:
        return self.logs.setdefault(log, len(self.logs) + 1)

    def queue(self, target: EnqueueTarget) -> int:
        return self.queues.setdefault(target, len(self.queues) + 1)

    def keys(self) -> list[str]:
        keys: list[str] = []
        for log in self.logs:
            keys += (log.entries, log.ids, log.ids_old)
        for target in self.queues:
            keys += target.keys()
        return keys


def _special(one: Settlement, targets: _Targets) -> list[Any]:
    args: list[Any] = [one.action.kind, one.entry_id, one.event_id]
    if one.key is None:
        args.append("")
    else:
        args += (one.key.becomes, *one.key[:4])
    args.append(len(one.emits))
    for emit in one.emits:
        args += (targets.log(emit.log), emit.event_id, emit.data)
    args.append(len(one.messages))
    for queued in one.messages:
        args += (targets.queue(queued.target), queued.delay_ms, queued.member, queued.message)
    args.append(len(one.states))
    for state in one.states:
        args += state
    if isinstance(one.action, Park):
        args += (one.action.delay_ms, one.action.options)
    elif isinstance(one.action, DeadLetter):
        args += (len(one.action.fields), *one.action.fields)
    return args


def _group(
    source: Source,
    consumer: str,
    members: Sequence[Settlement],
    targets: _Targets,
    record: bytes,
    window_ms: int,
) -> list[Any]:
    """The arguments of one group of a batch."""
    plain: list[bytes] = []
    events: list[bytes] = []
    clear: list[bytes] = []
    specials: list[Any] = []
    n_specials = 0
    for one in members:
        action = one.action
        plain_end = action is DONE or isinstance(action, Ended)
        if plain_end and not one.emits and not one.messages and one.key is None and not one.states:
            plain.append(one.entry_id)
            events.append(one.event_id)
        else:
            specials += _special(one, targets)
            n_specials += 1
        if one.has_options and isinstance(action, Ended | DeadLetter):
            clear.append(one.entry_id)
    mark = source.is_log
    return [
        source.group,
        consumer,
        int(not mark),
        int(mark),
        source.done_ms if source.done_ms is not None else window_ms,
        int(source.ordered),
        record,
        len(plain),
        *plain,
        *(events if mark else ()),
        len(clear),
        *clear,
        n_specials,
        *specials,
    ]


def settle(
    writer: str, number: int, window_ms: int, batch: Sequence[Settlement]
) -> Call[BatchOutcome]:
    """The call that settles `batch`. Harmless to repeat with its `number`.

    Parameters:
      writer: Names the committer whose batches are numbered.
      number: Of this batch; grows by one.
      window_ms: How long publish ids are kept at least, and done marks where the source does not
        say.
    """
    groups: dict[tuple[Source, str], list[Settlement]] = defaultdict(list)
    for one in batch:
        groups[one.source, one.consumer].append(one)

    targets = _Targets()
    keys: list[str] = [batch[0].source.keys.batch(writer)]
    body: list[Any] = []
    for (source, consumer), members in groups.items():
        k = source.keys
        keys += (k.entries, k.parked, k.options, k.done, k.done_old, k.dead, k.audit, k.wake)
        keys += (k.suspects, k.fence(consumer), k.keys, k.keys_old, k.owner, k.state)
        record = audit.record(source.audit, consumer, number, members)
        body += _group(source, consumer, members, targets, record, window_ms)
    keys += targets.keys()
    order = list(groups)

    def parse(reply: Any) -> BatchOutcome:
        outcome = BatchOutcome()
        for (source, consumer), said in zip(order, reply[1:], strict=True):
            if said == b"FENCED":
                outcome.fenced.append((source, consumer))
                continue
            if isinstance(said, bytes):
                text = said.decode("utf-8", "replace")
                outcome.problems += [
                    Problem(source, one.entry_id, text) for one in groups[source, consumer]
                ]
                continue
            for entry_id, text in said:
                outcome.problems.append(Problem(source, entry_id, text.decode("utf-8", "replace")))
        return outcome

    args = [number, len(groups), len(targets.logs), window_ms, *body]
    return Call(script("settle"), keys, args, parse)
