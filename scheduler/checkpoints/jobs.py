"""What others call at their moments: the scheduler at intervals and when it stops, a replay before
it publishes into the live logs."""

from __future__ import annotations

from ...broker import RedisStreamsBroker
from ...broker.connections import LinkPool
from .checkpoints import Checkpoints

__all__ = ["KIND", "before_live_replay", "on_shutdown", "run"]

#: What schedules call this kind of runs.
KIND = "checkpoint"


def run(
    broker: RedisStreamsBroker, *, reason: str = "interval", links: LinkPool | None = None
) -> str:
    """Takes a checkpoint, then deletes those that the settings do not keep; returns its id.

    Harmless to repeat: there is one checkpoint more. Raises as `Checkpoints.create`.
    """
    checkpoints = Checkpoints(broker, links=links)
    taken = checkpoints.create(reason)
    checkpoints.prune()
    return taken.id


def on_shutdown(broker: RedisStreamsBroker, *, links: LinkPool | None = None) -> str:
    """As `run`, when the scheduler process stops."""
    return run(broker, reason="shutdown of the scheduler", links=links)


def before_live_replay(broker: RedisStreamsBroker, reason: str) -> str:
    """Takes a checkpoint before a replay into the live logs, and returns its id. Deletes none.

    Raises as `Checkpoints.create`.
    """
    return Checkpoints(broker).create(f"before a live replay: {reason}").id
