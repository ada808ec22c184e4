"""`retention`: a run trims the logs of what nobody needs any more."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from .context import RunContext
from .kinds import JobKind, register_kind
from .retention import KIND, Retention

__all__ = ["RetentionParameters"]


class RetentionParameters(BaseModel):
    """Nothing: what is kept is said by the settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _run(context: RunContext, parameters: RetentionParameters) -> str:
    report = Retention(context.broker, links=context.links).run(by=f"schedule:{context.schedule}")
    trimmed = sum(one.trimmed for one in report.streams)
    streams = sum(1 for one in report.streams if one.trimmed)
    return f"{trimmed:,} entries of {streams} streams trimmed"


register_kind(JobKind(KIND, RetentionParameters, _run))
