"""`checkpoint`: a run takes a checkpoint, then deletes those that the settings do not keep."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from .checkpoints.jobs import KIND, run
from .context import RunContext
from .kinds import JobKind, register_kind

__all__ = ["CheckpointParameters"]


class CheckpointParameters(BaseModel):
    """Why it is taken.

    Attributes:
      reason: Shown with the checkpoint; default: the schedule's name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str = ""


def _run(context: RunContext, parameters: CheckpointParameters) -> str:
    reason = parameters.reason or f"schedule {context.schedule}"
    return run(context.broker, reason=reason, links=context.links)


register_kind(JobKind(KIND, CheckpointParameters, _run))
