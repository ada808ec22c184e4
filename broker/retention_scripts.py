"""The typed functions of the scripts of retention. See the scripts' headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .calls import Call, script
from .keys import CheckpointKeys, LogKeys, SourceKeys

__all__ = ["FLOOR", "Trimmed", "abandon", "pin", "retain", "seen"]

#: What a stream is held back by that checkpoints or replays need.
FLOOR = "floor"


class Trimmed(NamedTuple):
    """What one call has trimmed of a stream."""

    trimmed: int
    #: Entries that are left.
    length: int
    #: How many of them are more than was aimed at.
    surplus: int
    #: A group, `FLOOR`, or empty.
    held_by: str
    #: Lowest entry id that somebody needs; empty: nobody needs any.
    lowest: str


def retain(stream: LogKeys, *, aim: int, floor: str, page: int, trim: bool) -> Call[Trimmed]:
    """Trims a page of what nobody needs. Harmless to repeat.

    Parameters:
      aim: Entries that stay, at least.
      floor: Lowest id that is needed by others than groups; empty: none.
      trim: Trim, or only tell.
    """
    return Call(
        script("retain"),
        (stream.entries,),
        (aim, floor, page, "1" if trim else ""),
        lambda said: Trimmed(said[0], said[1], said[2], said[3].decode(), said[4].decode()),
    )


def abandon(keys: SourceKeys, group: str, *, by: str, why: str) -> Call[tuple[bool, int]]:
    """Gives up a subscription on one stream; whether it was there, and the entries that it had
    left. Harmless to repeat."""
    return Call(
        script("abandon"),
        (
            keys.entries,
            keys.audit,
            keys.state,
            keys.owner,
            keys.parked,
            keys.options,
            keys.suspects,
            keys.suspect,
            keys.passed,
            keys.done,
            keys.done_old,
            keys.wake,
        ),
        (group, by, why),
        lambda said: (said[0] == 1, said[1]),
    )


def _since(reply: Any) -> tuple[int, dict[str, int]]:
    now_ms, *pairs = reply
    names = [name.decode() for name in pairs[::2]]
    return now_ms, dict(zip(names, pairs[1::2], strict=True))


def seen(
    keys: CheckpointKeys, read: Sequence[str], others: Sequence[str]
) -> Call[tuple[int, dict[str, int]]]:
    """Notes which subscriptions somebody reads. Returns the server's clock, ms, and since when
    nobody has read each of them, as far as that was looked at."""
    return Call(script("seen"), (keys.seen,), (len(read), *read, *others), _since)


def pin(keys: CheckpointKeys, replay: str, needs: bytes) -> Call[int]:
    """Says what a replay needs of the logs, JSON; empty: nothing any more."""
    return Call(script("pin"), (keys.running,), (replay, needs), int)
