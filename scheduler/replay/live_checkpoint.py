"""The checkpoint that comes before a replay into the live logs."""

from __future__ import annotations

from ...broker import RedisStreamsBroker
from ...errors import NeedsCheckpoint

__all__ = ["take_checkpoint"]


def take_checkpoint(broker: RedisStreamsBroker, reason: str) -> str:
    """Takes a checkpoint and returns its id.

    There are no checkpoints yet: whoever replays into the live logs must give a function of their
    own, `replay(..., checkpoint=...)`.

    Raises:
      NeedsCheckpoint: Always.
    """
    raise NeedsCheckpoint(
        f"{reason}: nothing is published into the live logs of namespace "
        f"{broker.keys.namespace!r} without a checkpoint before it, and none can be taken here. "
        "Give replay(..., checkpoint=FUNCTION), which takes one and returns its id, or choose "
        "target='isolated'."
    )
