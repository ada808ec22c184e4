"""The checkpoint that comes before a replay into the live logs."""

from __future__ import annotations

from ...broker import RedisStreamsBroker
from ...errors import CheckpointError, NeedsCheckpoint
from ..checkpoints.jobs import before_live_replay

__all__ = ["take_checkpoint"]


def take_checkpoint(broker: RedisStreamsBroker, reason: str) -> str:
    """Takes a checkpoint and returns its id.

    Raises:
      NeedsCheckpoint: It cannot be taken.
      BrokerError: The server cannot be reached or refuses.
    """
    try:
        return before_live_replay(broker, reason)
    except CheckpointError as error:
        raise NeedsCheckpoint(
            f"{reason}: nothing is published into the live logs of namespace "
            f"{broker.keys.namespace!r} without a checkpoint before it, and none can be taken now: "
            f"{error} Try again later, or choose target='isolated'."
        ) from error
