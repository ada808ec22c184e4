"""One typed function a script of replays, as in `scripts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .calls import Call, script
from .keys import ReplayKeys, SourceKeys

__all__ = ["give_events", "save", "take"]


def take(keys: ReplayKeys, token: str, lease_ms: int) -> Call[int]:
    """Takes a replay; the number of the run, or, negative, how many ms it is another one's."""
    return Call(script("replay_take"), (keys.lease, keys.state), (token, lease_ms), int)


def save(
    keys: ReplayKeys, token: str, run: int, lease_ms: int, fields: Mapping[str, Any]
) -> Call[bool]:
    """Saves a run's state; False if another process has taken the replay over.

    Parameters:
      lease_ms: 0: give the lease up.
      fields: At least one.
    """
    args: list[Any] = [token, run, lease_ms]
    for name, value in fields.items():
        args += (name, value)
    return Call(script("replay_save"), (keys.lease, keys.state), args, bool)


def give_events(
    keys: SourceKeys,
    subscription: str,
    replay_id: str,
    epoch: int,
    state: bytes,
    entries: Sequence[tuple[str, bytes]],
) -> Call[list[str]]:
    """Makes (entry id, event id) of one stream pending again for one subscription. Harmless to
    repeat. An outcome each; see the script."""
    args: list[Any] = [subscription, epoch, state]
    for entry in entries:
        args += entry
    return Call(
        script("replay_event"),
        (
            keys.entries,
            keys.parked,
            keys.options,
            keys.done,
            keys.done_old,
            keys.wake,
            keys.replay(subscription, replay_id),
        ),
        args,
        lambda reply: [outcome.decode() for outcome in reply],
    )
