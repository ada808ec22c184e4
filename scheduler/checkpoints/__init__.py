"""Checkpoints: consistent cuts through all subscriptions, and the way back to them."""

from __future__ import annotations

from .checkpoints import Checkpoints
from .model import Checkpoint, CheckpointInfo
from .pruning import PrunePolicy
from .restore_plan import Restored, StreamRestore
from .verifying import Verified

__all__ = [
    "Checkpoint",
    "CheckpointInfo",
    "Checkpoints",
    "PrunePolicy",
    "Restored",
    "StreamRestore",
    "Verified",
]
