"""Whether a checkpoint can be restored: it is what was stored, and the logs hold what it needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ...broker.checkpoint_scripts import StreamPosition
from ...broker.connections import LinkPool
from ...broker.entry_ids import id_after, id_key
from ...broker.keys import Keys
from ...errors import CheckpointDamaged
from .model import Checkpoint, LogEnd, Position
from .store import CheckpointStore
from .taking import read_positions

__all__ = ["Verified", "lowest_needed", "problems_of", "split_place", "unusable", "verify"]


@dataclass(frozen=True, slots=True)
class Verified:
    """What verifying a checkpoint has found.

    Parameters:
      id: The checkpoint.
      problems: Why it cannot be restored, or not all of it; empty: it is good.
    """

    id: str
    problems: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """Whether all of it can be restored."""
        return not self.problems


def split_place(place: str) -> tuple[str, str]:
    """Type and part of `TYPE:PART`."""
    name, _, part = place.rpartition(":")
    return name, part


def lowest_needed(end: LogEnd, position: Position) -> str:
    """The lowest entry id that a log must hold for `position` to be restored."""
    return position.need or id_after(end.last)


def unusable(now: StreamPosition | None, end: LogEnd, position: Position) -> str:
    """Why a position cannot be restored; empty: it can."""
    if now is None:
        return "the log is gone" if end.added else ""
    if now.added < end.added or id_key(now.last) < id_key(end.last):
        return "the log was deleted and made anew since"
    if position.need:
        if not now.first or id_key(now.first) > id_key(position.need):
            first = now.first or "nothing"
            return f"the log was trimmed: entry {position.need} is needed, and it begins at {first}"
    elif now.added - now.length > end.added:
        return f"the log was trimmed beyond {end.last}, behind which it is to begin"
    return ""


def problems_of(
    checkpoint: Checkpoint,
    now: Mapping[str, StreamPosition | None],
    subscriptions: Collection[str] | None = None,
) -> list[str]:
    """Why a checkpoint, or some subscriptions of it, cannot be restored."""
    found: list[str] = []
    for name, streams in checkpoint.subscriptions.items():
        if subscriptions is not None and name not in subscriptions:
            continue
        for place, position in streams.items():
            why = unusable(now.get(place), checkpoint.logs[place], position)
            if why:
                found.append(f"subscription {name!r} on {place}: {why}")
    return found


def verify(links: LinkPool, keys: Keys, store: CheckpointStore, checkpoint_id: str) -> Verified:
    """Looks at one checkpoint. Changes nothing.

    Raises:
      CheckpointNotFound: It is not there.
      BrokerError: The server cannot be reached or refuses.
    """
    try:
        checkpoint = store.get(checkpoint_id)
    except CheckpointDamaged as error:
        return Verified(checkpoint_id, (str(error),))
    places = [split_place(place) for place in checkpoint.logs]
    _, now = read_positions(links, keys, places, with_pending=False)
    return Verified(checkpoint.id, tuple(problems_of(checkpoint, now)))
