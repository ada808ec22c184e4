"""One typed function a script; nothing else names a script.

Each returns a `Call`; what a script does, its keys and its reply stand in the header of its file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .calls import Call, script
from .keys import LogKeys, MemberKeys, SourceKeys

__all__ = [
    "Added",
    "Alive",
    "Appended",
    "Block",
    "DelayedKeys",
    "EnqueueTarget",
    "Fetched",
    "Heartbeat",
    "Reclaimed",
    "backlog",
    "cancel",
    "enlist",
    "enqueue",
    "ensure",
    "fetch",
    "flush",
    "forget",
    "heartbeat",
    "layout",
    "peek",
    "publish",
    "reclaim",
]


class Appended(NamedTuple):
    """What became of an event: where it stands in its log, or why it does not."""

    #: Empty if it does not stand there.
    entry_id: str
    #: Whether it stood there before.
    duplicate: bool
    #: There was no room, and it was dropped.
    shed: bool = False
    #: There was no room, and it was refused: the slowest subscription, and its backlog.
    full: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class EnqueueTarget:
    """The keys that adding a message to one lane touches.

    `number` is the lane's place among the queue's sources, from 1; delayed members begin with it.
    """

    number: int
    entries: str
    delayed: str
    delayed_messages: str
    wake: str
    cancelled: str

    def keys(self) -> tuple[str, str, str, str, str]:
        return (self.entries, self.delayed, self.delayed_messages, self.wake, self.cancelled)

    def member(self, message_id: str) -> str:
        """A new member of the delayed set: a message may be delayed more than once, and those that
        are due at the same time keep their order. Scripts read the id behind the first colon."""
        return f"{self.number}{time.time_ns():016x}{os.urandom(2).hex()}:{message_id}"


class DelayedKeys(NamedTuple):
    """The keys of a work queue's delayed messages, and of those that were cancelled."""

    delayed: str
    messages: str
    cancelled: str


class Block(NamedTuple):
    """What one fetch took from one source."""

    #: Index of the source in the order given to `fetch`.
    source: int
    #: [entry id, [field, value, ...]] each.
    entries: list[Any]
    #: Retry state of each entry, where they were parked; else empty.
    options: list[bytes | None]
    #: Whether its lane was passed over for so long that these go before those of higher lanes.
    aged: bool = False


class Fetched(NamedTuple):
    """What one fetch took, and when to fetch again."""

    #: The server's clock, ms.
    now_ms: int
    #: When the next parked or delayed entry is due, ms; 0 = at once; None = nothing waits.
    next_due_ms: int | None
    #: An error met on the way, as the server put it; what was taken before it is in `blocks`.
    error: str
    #: Whether an entry waits that may have killed its worker.
    suspects: bool
    #: Whether message ids are known to be cancelled.
    cancellations: bool
    #: Ids of delayed messages that were due, and dropped because they were cancelled.
    dropped: list[str]
    blocks: list[Block]


def _appended_one(entry: bytes) -> Appended:
    mark = entry[:1]
    if mark == b"=":
        return Appended(entry[1:].decode(), True)
    if mark == b"!":
        backlog, _, group = entry[1:].decode().partition(" ")
        return Appended("", False, full=(group, int(backlog)))
    if mark == b"-":
        return Appended("", False, shed=True)
    return Appended(entry.decode(), False)


def _appended(reply: Any) -> list[Appended]:
    return [_appended_one(entry) for entry in reply]


def publish(
    log: LogKeys,
    window_ms: int,
    events: Sequence[tuple[bytes, bytes]],
    *,
    limit: int = 0,
    shed: bool = False,
) -> Call[list[Appended]]:
    """Appends (event id, encoded event) pairs to one stream. Harmless to repeat.

    Parameters:
      limit: Most that a subscription may have to handle; 0 = no limit.
      shed: Drop what finds no room, rather than refuse it.
    """
    args: list[Any] = [window_ms, limit, int(shed)]
    for event in events:
        args += event
    keys = (log.entries, log.ids, log.ids_old, log.filled, log.shed)
    return Call(script("publish"), keys, args, _appended)


class Added(NamedTuple):
    """What became of the messages of one call."""

    #: How many were added, from the first; -1: not known, since a later call came before.
    accepted: int
    #: How many are ready or running now; 0 if all were added.
    backlog: int


def _added(reply: Any) -> Added:
    return Added(reply, 0) if isinstance(reply, int) else Added(*reply)


def enqueue(
    lanes: Sequence[str],
    delayed: DelayedKeys,
    wake: str,
    producer: str,
    sequence: int,
    messages: Sequence[tuple[int, int, str, bytes]],
    *,
    limit: int = 0,
) -> Call[Added]:
    """Adds (lane from 1, delay in ms or -1, member, message) to one queue, as far as there is room.
    Harmless to repeat with its `sequence`.

    Parameters:
      limit: Most that may be ready or running; 0 = no limit.
    """
    args: list[Any] = [sequence, limit]
    for message in messages:
        args += message
    keys = (*lanes, *delayed[:2], wake, producer, delayed.cancelled)
    return Call(script("enqueue"), keys, args, _added)


def _fetched(reply: Any) -> Fetched:
    now_ms, next_due_ms, error, suspects, cancelled, dropped, *blocks = reply
    return Fetched(
        now_ms,
        None if next_due_ms < 0 else next_due_ms,
        error.decode("utf-8", "replace"),
        bool(suspects),
        cancelled > 0,
        [message_id.decode("utf-8", "replace") for message_id in dropped],
        [
            Block(source - 1, entries, options, aged == 1)
            for source, entries, options, aged in blocks
        ],
    )


def fetch(
    sources: Sequence[SourceKeys],
    delayed: DelayedKeys | None,
    *,
    group: str,
    consumer: str,
    room: int,
    passed_on_ms: int = 0,
    alone: bool = False,
    lanes: bool = False,
    owned: bool = False,
    nothing_new: bool = False,
) -> Call[Fetched]:
    """Takes at most `room` entries for `consumer`. A lost reply leaves them pending with it.

    Parameters:
      delayed: Of a work queue: its delayed messages, and which ones were cancelled.
      passed_on_ms: A due time that another reader was woken for already.
      alone: Take one entry that may have killed its worker, and nothing else.
      lanes: The sources are lanes, from high to low; one that is passed over for long gets a share.
      owned: Read only if `consumer` owns all the sources.
      nothing_new: Take only what was handed back or is due.
    """
    keys: list[str] = []
    for source in sources:
        keys += (source.entries, source.parked, source.options, source.fence(consumer))
        keys += (source.suspects, source.suspect, source.passed, source.owner)
    keys.append(sources[0].wake)
    keys += delayed or ()
    flags = (int(lanes), int(owned), int(nothing_new))
    args = (group, consumer, room, len(sources), int(alone), passed_on_ms, *flags)
    return Call(script("fetch"), keys, args, _fetched)


def ensure(group: str, streams: Sequence[tuple[str, str]]) -> Call[list[str]]:
    """Makes `group` on each (stream, entry id to read from) that does not have it; returns an
    error, or nothing, for each."""
    return Call(
        script("ensure"),
        [key for key, _ in streams],
        (group, *(start for _, start in streams)),
        lambda reply: [error.decode("utf-8", "replace") for error in reply],
    )


def layout(key: str, declared: str) -> Call[str]:
    """The layout of a log: what it has, or from now on what is `declared`."""
    return Call(script("layout"), (key,), (declared,), lambda reply: bytes(reply).decode())


def _next_due(reply: Any) -> int | None:
    return None if reply < 0 else int(reply)


def peek(sources: Sequence[SourceKeys], delayed: DelayedKeys | None) -> Call[int | None]:
    """Milliseconds until the next parked or delayed entry is due; 0 = one is; None = none waits."""
    keys = [source.parked for source in sources]
    keys += delayed[:1] if delayed else ()
    return Call(script("peek"), keys, (), _next_due)


def cancel(
    cancelled: str, delayed: str, lanes: Sequence[str], keep_ms: int, message_ids: Sequence[str]
) -> Call[int]:
    """Cancels messages of a work queue, by id. Harmless to repeat.

    Parameters:
      lanes: The lanes' streams.
      keep_ms: How long an id is remembered beyond the last time at which its message may turn up.
    """
    return Call(script("cancel"), (cancelled, delayed, *lanes), (keep_ms, *message_ids), int)


def flush(delayed: tuple[str, str], lanes: Sequence[SourceKeys], group: str) -> Call[int]:
    """Empties a work queue; returns how many messages were dropped."""
    keys = list(delayed)
    for lane in lanes:
        keys += (lane.entries, lane.parked, lane.options, lane.suspects)
    return Call(script("flush"), keys, (group,), int)


def backlog(delayed: str, lanes: Sequence[SourceKeys]) -> Call[int]:
    """Counts ready, pending and delayed messages of a work queue in one moment."""
    return Call(script("backlog"), (delayed, *(lane.entries for lane in lanes)), (), int)


class Alive(NamedTuple):
    """What the server knows of one consumer."""

    #: Its last heartbeat, the server's clock, ms.
    beat_ms: int
    #: Run id of the server and client id of its heartbeat's connection; None if unknown.
    connection: tuple[str, int] | None
    #: Its health record, JSON; empty before the first heartbeat.
    record: bytes = b""

    @classmethod
    def parse(cls, text: bytes) -> Alive:
        """Reads `MS RUN_ID CLIENT_ID RECORD`."""
        beat_ms, run_id, client_id, *record = text.split(b" ", 3)
        connection = None if run_id == b"-" else (run_id.decode(), int(client_id))
        return cls(int(beat_ms), connection, record[0] if record else b"")


class Heartbeat(NamedTuple):
    """A heartbeat's reply."""

    is_reclaimer: bool
    #: The server's clock, ms.
    now_ms: int
    #: To the reclaimer: everybody. To the others: the reclaimer.
    alive: dict[str, Alive]
    #: Whether the server knew this consumer before.
    listed: bool = True


def _heartbeat(reply: Any) -> Heartbeat:
    is_reclaimer, now_ms, listed, *pairs = reply
    alive = {
        consumer.decode(): Alive.parse(text)
        for consumer, text in zip(pairs[::2], pairs[1::2], strict=True)
        if text is not None
    }
    return Heartbeat(bool(is_reclaimer), now_ms, alive, bool(listed))


def heartbeat(
    members: MemberKeys,
    consumer: str,
    connection: tuple[str, int] | None,
    *,
    lease_ms: int,
    believed_dead: str,
    leads: bool = False,
    is_new: bool = True,
    record: bytes = b"",
) -> Call[Heartbeat]:
    """Says that `consumer` lives, on `connection` (run id of the server, client id).

    Parameters:
      believed_dead: A reclaimer whose lease may be taken over; empty for none.
      leads: It had the lease at its last heartbeat.
      is_new: The connection is new: whoever looks at connections is told.
      record: Its health, JSON.
    """
    shown = "- 0" if connection is None else f"{connection[0]} {connection[1]}"
    return Call(
        script("heartbeat"),
        (members.alive, members.lease, members.arrivals),
        (
            consumer,
            shown,
            lease_ms,
            believed_dead,
            "1" if leads else "",
            "1" if is_new else "",
            record,
        ),
        _heartbeat,
    )


def enlist(
    members: MemberKeys, consumer: str, queue: str, sources: bytes, *, claims: bool = False
) -> Call[int]:
    """Records what `consumer` reads of `queue`, before it reads. `sources` is JSON: a list of
    objects with a `name`.

    Parameters:
      claims: It wants a share of the queue's partitions.
    """
    more = (members.claimants(queue), members.shift(queue)) if claims else ()
    return Call(
        script("enlist"),
        (members.alive, members.reads(consumer), members.known, *more),
        (consumer, queue, sources),
        int,
    )


class Reclaimed(NamedTuple):
    """What was done with a page of a dead consumer's entries."""

    handed_back: int
    suspects: int
    dead_lettered: int
    more: bool


def reclaim(
    keys: SourceKeys,
    *,
    name: str,
    group: str,
    consumer: str,
    is_log: bool,
    fence: bool,
    max_deliveries: int,
    page: int,
) -> Call[Reclaimed]:
    """Takes a page of what `consumer` held of one stream. Harmless to repeat."""
    return Call(
        script("reclaim"),
        (
            keys.entries,
            keys.parked,
            keys.suspects,
            keys.wake,
            keys.fence(consumer),
            keys.dead,
            keys.options,
            keys.owner,
        ),
        (
            group,
            consumer,
            int(fence),
            max_deliveries,
            name,
            int(not is_log),
            "d" if is_log else "m",
            page,
        ),
        lambda reply: Reclaimed(reply[0], reply[1], reply[2], bool(reply[3])),
    )


def forget(members: MemberKeys, consumer: str) -> Call[int]:
    """Drops a consumer of which everything was reclaimed."""
    return Call(
        script("forget"),
        (members.alive, members.reads(consumer), members.lease),
        (consumer,),
        int,
    )
