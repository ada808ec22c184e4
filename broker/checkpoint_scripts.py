"""The typed functions of the scripts of checkpoints. See the scripts' headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .calls import Call, script
from .keys import CheckpointKeys, LogKeys, SourceKeys

__all__ = [
    "GroupPosition",
    "Positions",
    "StreamPosition",
    "exclusive",
    "note",
    "positions",
    "prune",
    "rewind",
    "store",
    "unmark",
]


class GroupPosition(NamedTuple):
    """Where one subscription stands on one stream."""

    #: Last delivered.
    last: str
    #: Entries up to there, ever; None: the server does not know.
    read: int | None
    #: How many are pending.
    pending: int
    #: The oldest of them, or all.
    oldest: tuple[str, ...]
    #: The first entry behind `last`; empty: there is none.
    unread: str


class StreamPosition(NamedTuple):
    """Where one stream of a log, and all who read it, stand."""

    #: Id of the newest entry there ever was.
    last: str
    #: Entries that were ever added.
    added: int
    length: int
    #: Id of the oldest entry; empty: there is none.
    first: str
    groups: dict[str, GroupPosition]
    #: Handlers' states with their tokens, by subscription and name.
    states: dict[tuple[str, str], bytes]


class Positions(NamedTuple):
    """Some streams, at one moment."""

    #: The server's clock, us.
    at_us: int
    #: In the order asked for; None: there is no such stream.
    streams: list[StreamPosition | None]


def _stream(said: Any) -> StreamPosition | None:
    if said is None:
        return None
    last, added, length, first, groups, states = said
    return StreamPosition(
        last.decode(),
        added,
        length,
        first.decode(),
        {
            name.decode(): GroupPosition(
                at.decode(),
                None if read < 0 else read,
                pending,
                tuple(one.decode() for one in oldest),
                unread.decode(),
            )
            for name, at, read, pending, oldest, unread in groups
        },
        {_named(field): value for field, value in zip(states[::2], states[1::2], strict=True)},
    )


def _named(field: bytes) -> tuple[str, str]:
    subscription, _, name = field.decode().partition(" ")
    return subscription, name


def positions(streams: Sequence[LogKeys], *, of_one: int, in_all: int) -> Call[Positions]:
    """Where the subscriptions of `streams` stand. Atomic; changes nothing.

    Parameters:
      of_one: Pending entries of one subscription and stream that are named, at most.
      in_all: And in the whole call.
    """
    keys = [key for stream in streams for key in (stream.entries, stream.state)]
    return Call(
        script("positions"),
        keys,
        (of_one, in_all),
        lambda reply: Positions(int(reply[0]), [_stream(said) for said in reply[1:]]),
    )


def rewind(
    keys: SourceKeys,
    group: str,
    *,
    by: str,
    checkpoint: str,
    is_new: bool,
    last: str,
    read: int | None,
    pending: Sequence[str],
    states: Mapping[str, bytes],
    dead: Sequence[str],
) -> Call[str]:
    """Puts a subscription on one stream back; `ok`, or why nothing was changed: `gone`, `exists`,
    `no_group`, `held NAME`, `owned NAME`. Atomic.

    Parameters:
      is_new: The group does not exist, and is made.
      last: Last delivered id.
      read: Entries up to there; None: unknown.
      pending: Entries that are to be pending.
      states: Tokens and bytes by name.
      dead: Consumers that are dead and not reclaimed yet; they are fenced.
    """
    names = [
        keys.entries,
        keys.parked,
        keys.options,
        keys.suspects,
        keys.suspect,
        keys.passed,
        keys.owner,
        keys.state,
        keys.audit,
        keys.wake,
        *(keys.fence(consumer) for consumer in dead),
    ]
    flat = [part for name, value in states.items() for part in (f"{group} {name}", value)]
    args: list[Any] = [group, by, checkpoint, "1" if is_new else "", last]
    args += [-1 if read is None else read, len(pending), *pending, len(states), *flat]
    args += [len(dead), *dead]
    return Call(script("rewind"), names, args, lambda said: bytes(said).decode())


def unmark(hashes: Sequence[str], fields: Sequence[bytes]) -> Call[int]:
    """Forgets done marks, or business keys; at most some hundred. Returns how many there were."""
    return Call(script("unmark"), hashes, fields, int)


def exclusive(keys: CheckpointKeys, token: str, who: str, for_ms: int) -> Call[str]:
    """Takes or renews the right to take checkpoints, restore or trim; 0 ms gives it up. Returns who
    has it, if somebody else does. `token` has no blanks."""
    return Call(
        script("exclusive"),
        (keys.busy,),
        (token, who.encode("utf-8", "replace"), for_ms),
        lambda said: bytes(said).decode("utf-8", "replace"),
    )


def _three(keys: CheckpointKeys) -> tuple[str, str, str]:
    return (keys.index, keys.bodies, keys.audit)


def store(
    keys: CheckpointKeys, checkpoint: str, header: bytes, body: bytes, record: bytes
) -> Call[int]:
    """Stores a checkpoint; 0 if it is there. Harmless to repeat."""
    args = (checkpoint, header, body, record)
    return Call(script("checkpoint_store"), _three(keys), args, int)


def prune(keys: CheckpointKeys, stays: str, record: bytes, checkpoints: Sequence[str]) -> Call[int]:
    """Deletes checkpoints, unless `stays` is not there: -1 then. Harmless to repeat."""
    return Call(script("checkpoint_prune"), _three(keys), (stays, record, *checkpoints), int)


def note(keys: CheckpointKeys, record: bytes) -> Call[bytes]:
    """Adds to the audit of checkpoints and retention."""
    return Call(script("checkpoint_note"), (keys.audit,), (record,), bytes)
