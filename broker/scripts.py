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
    "Alive",
    "Appended",
    "Block",
    "EnqueueTarget",
    "Fetched",
    "Heartbeat",
    "Reclaimed",
    "backlog",
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
    """Where an event stands in its log, and whether it stood there before."""

    entry_id: str
    duplicate: bool


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

    def keys(self) -> tuple[str, str, str, str]:
        return (self.entries, self.delayed, self.delayed_messages, self.wake)

    def member(self, message_id: str) -> str:
        """A new member of the delayed set: a message may be delayed more than once, and those that
        are due at the same time keep their order."""
        return f"{self.number}{time.time_ns():016x}{os.urandom(2).hex()}:{message_id}"


class Block(NamedTuple):
    """What one fetch took from one source."""

    #: Index of the source in the order given to `fetch`.
    source: int
    #: [entry id, [field, value, ...]] each.
    entries: list[Any]
    #: Retry state of each entry, where they were parked; else empty.
    options: list[bytes | None]


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
    blocks: list[Block]


def _appended(reply: Any) -> list[Appended]:
    return [
        Appended(entry[1:].decode(), True) if entry[:1] == b"=" else Appended(entry.decode(), False)
        for entry in reply
    ]


def publish(
    log: LogKeys, window_ms: int, events: Sequence[tuple[bytes, bytes]]
) -> Call[list[Appended]]:
    """Appends (event id, encoded event) pairs to one stream. Harmless to repeat."""
    args: list[Any] = [window_ms]
    for event_id, data in events:
        args.append(event_id)
        args.append(data)
    return Call(script("publish"), (log.entries, log.ids, log.ids_old), args, _appended)


def enqueue(
    lanes: Sequence[str],
    delayed: tuple[str, str],
    wake: str,
    producer: str,
    sequence: int,
    messages: Sequence[tuple[int, int, str, bytes]],
) -> Call[bool]:
    """Adds (lane from 1, delay in ms or -1, member, message) to one queue. Harmless to repeat with
    its `sequence`."""
    args: list[Any] = [sequence]
    for message in messages:
        args += message
    return Call(script("enqueue"), (*lanes, *delayed, wake, producer), args, bool)


def _fetched(reply: Any) -> Fetched:
    now_ms, next_due_ms, error, suspects, *blocks = reply
    return Fetched(
        now_ms,
        None if next_due_ms < 0 else next_due_ms,
        error.decode("utf-8", "replace"),
        bool(suspects),
        [Block(source - 1, entries, options) for source, entries, options in blocks],
    )


def fetch(
    sources: Sequence[SourceKeys],
    delayed: tuple[str, str] | None,
    *,
    group: str,
    consumer: str,
    room: int,
    passed_on_ms: int = 0,
    alone: bool = False,
) -> Call[Fetched]:
    """Takes at most `room` entries for `consumer`. A lost reply leaves them pending with it.

    Parameters:
      passed_on_ms: A due time that another reader was woken for already.
      alone: Take one entry that may have killed its worker, and nothing else.
    """
    keys: list[str] = []
    for source in sources:
        keys += (source.entries, source.parked, source.options, source.fence(consumer))
        keys += (source.suspects, source.suspect)
    keys.append(sources[0].wake)
    keys += delayed or ()
    args = (group, consumer, room, len(sources), int(alone), passed_on_ms)
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


def peek(sources: Sequence[SourceKeys], delayed: tuple[str, str] | None) -> Call[int | None]:
    """Milliseconds until the next parked or delayed entry is due; 0 = one is; None = none waits."""
    keys = [source.parked for source in sources]
    keys += delayed[:1] if delayed else ()
    return Call(script("peek"), keys, (), _next_due)


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

    @classmethod
    def parse(cls, text: bytes) -> Alive:
        """Reads `MS RUN_ID CLIENT_ID`."""
        beat_ms, run_id, client_id = text.decode().split(" ")
        return cls(int(beat_ms), None if run_id == "-" else (run_id, int(client_id)))


class Heartbeat(NamedTuple):
    """A heartbeat's reply."""

    is_reclaimer: bool
    #: The server's clock, ms.
    now_ms: int
    #: To the reclaimer: everybody. To the others: the reclaimer.
    alive: dict[str, Alive]


def _heartbeat(reply: Any) -> Heartbeat:
    is_reclaimer, now_ms, *pairs = reply
    alive = {
        consumer.decode(): Alive.parse(text)
        for consumer, text in zip(pairs[::2], pairs[1::2], strict=True)
        if text is not None
    }
    return Heartbeat(bool(is_reclaimer), now_ms, alive)


def heartbeat(
    members: MemberKeys,
    consumer: str,
    connection: tuple[str, int] | None,
    *,
    lease_ms: int,
    believed_dead: str,
) -> Call[Heartbeat]:
    """Says that `consumer` lives, on `connection` (run id of the server, client id).

    Parameters:
      believed_dead: A reclaimer whose lease may be taken over; empty for none.
    """
    shown = "- 0" if connection is None else f"{connection[0]} {connection[1]}"
    return Call(
        script("heartbeat"),
        (members.alive, members.lease),
        (consumer, shown, lease_ms, believed_dead),
        _heartbeat,
    )


def enlist(members: MemberKeys, consumer: str, queue: str, sources: bytes) -> Call[int]:
    """Records what `consumer` reads of `queue`, before it reads."""
    return Call(
        script("enlist"),
        (members.alive, members.reads(consumer)),
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
