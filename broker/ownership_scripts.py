"""The typed functions of the scripts by which partitions get owners. See the scripts' headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .calls import Call, script
from .keys import MemberKeys, SourceKeys

__all__ = ["Claimants", "Owned", "claimants", "disown", "own", "resign", "whereabouts"]


class Claimants(NamedTuple):
    """Who shares the partitions of a subscription."""

    #: Of the stream that wakes them: its newest entry.
    shift: bytes
    #: Sorted.
    names: list[str]


class Owned(NamedTuple):
    """What a consumer that asked for a partition was told."""

    #: It is fenced; nothing else holds.
    fenced: bool
    #: Somebody else who owns it; empty if it is now its own.
    owner: str
    epoch: int = 0
    #: The last entry id that was ever read by the group.
    last: bytes = b"0-0"
    #: Of the stream that wakes the owner: its newest entry.
    woken: bytes = b"0-0"
    #: Entries that wait for a retry, or to be run alone, or that may be fetched out of their order.
    expected: Sequence[bytes] = ()
    #: Entries that somebody has claimed and not settled: the consumer by entry id.
    elsewhere: dict[bytes, str] = {}  # noqa: RUF012 - an immutable tuple's default, never changed


def claimants(members: MemberKeys, subscription: str) -> Call[Claimants]:
    """Who of those that live wants a share."""
    keys = (members.claimants(subscription), members.alive, members.shift(subscription))
    return Call(script("claimants"), keys, (), _claimants)


def _claimants(reply: Any) -> Claimants:
    return Claimants(reply[0], sorted(name.decode() for name in reply[1:]))


def resign(members: MemberKeys, subscription: str, consumer: str = "") -> Call[int]:
    """Wakes all claimants; `consumer` is none any more, if it is given. If it was none, nobody is
    woken (0)."""
    keys = (members.claimants(subscription), members.shift(subscription))
    return Call(script("resign"), keys, (consumer,), int)


def own(keys: SourceKeys, group: str, consumer: str) -> Call[Owned]:
    """Makes `consumer` the owner, if there is none. Harmless to repeat."""
    names = (keys.owner, keys.epoch, keys.fence(consumer), keys.entries, keys.parked)
    return Call(script("own"), (*names, keys.suspects, keys.wake), (group, consumer), _owned)


def _owned(reply: Any) -> Owned:
    who = reply[0].decode()
    if len(reply) == 1:
        return Owned(who == "FENCED", who)
    _, epoch, last, woken, expected, elsewhere = reply
    held = dict(
        zip(elsewhere[::2], (name.decode() for name in elsewhere[1::2]), strict=True),
    )
    return Owned(False, "", epoch, last, woken, expected, held)


def disown(keys: SourceKeys, consumer: str) -> Call[int]:
    """Gives a partition up; 1 if it was owned by `consumer`."""
    return Call(script("disown"), (keys.owner,), (consumer,), int)


def whereabouts(keys: SourceKeys, group: str, ids: Sequence[bytes]) -> Call[list[str]]:
    """Who has these entries: a consumer, `__free__` (parked, handed back), or empty (settled)."""
    return Call(
        script("whereabouts"),
        (keys.entries,),
        (group, *ids),
        lambda reply: [name.decode() for name in reply],
    )
