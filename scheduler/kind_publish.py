"""`publish`: a run publishes one event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ..broker import RedisStreamsBroker
from ..errors import InvalidSchedule
from ..events import Event
from ..events.registry import event_class
from .context import RunContext, run_id
from .kinds import JobKind, register_kind

__all__ = ["PublishParameters"]

#: What the run decides, and the definition must not.
_OURS = ("id", "type", "v", "ts_published")


class PublishParameters(BaseModel):
    """What is published.

    Attributes:
      type: Name of the event type.
      event: Its fields, as in the class's constructor. `ts_event` is the fire time and `source` is
        `schedule:NAME` unless they are given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    event: Mapping[str, Any] = Field(default_factory=dict)


def _event(schedule: str, parameters: PublishParameters, fired_ms: int, asked: bool) -> Event:
    given = [name for name in _OURS if name in parameters.event]
    if given:
        raise InvalidSchedule(
            f"Schedule {schedule!r}: the event names {', '.join(given)}, which each run decides by "
            "itself. Remove it."
        )
    cls = event_class(parameters.type)
    fields = {
        "ts_event": fired_ms * 1_000_000,
        "source": f"schedule:{schedule}",
        **parameters.event,
    }
    return cls(**fields, id=run_id(schedule, fired_ms, asked=asked))


def _run(context: RunContext, parameters: PublishParameters) -> str:
    event = _event(context.schedule, parameters, context.fired_ms, context.asked)
    return context.end_with_event(event)


def _check(broker: RedisStreamsBroker, schedule: str, parameters: PublishParameters) -> None:
    _event(schedule, parameters, 0, False)


register_kind(JobKind("publish", PublishParameters, _run, _check))
