"""`send`: a run enqueues one message for an actor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from dramatiq import ActorNotFound, Message
from pydantic import BaseModel, ConfigDict, Field

from ..broker import RedisStreamsBroker
from ..errors import InvalidSchedule
from .context import RunContext
from .kinds import JobKind, register_kind

__all__ = ["SendParameters"]


class SendParameters(BaseModel):
    """What is sent.

    Attributes:
      actor: Name of the actor; it must be declared in a module that `workers.handlers` names.
      args, kwargs: Of the actor's function.
      options: Of the message, such as `priority`.
      delay_ms: How long it waits on the server before it runs, ms.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    actor: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = Field(default_factory=dict)
    options: Mapping[str, Any] = Field(default_factory=dict)
    delay_ms: Annotated[int, Field(ge=0)] | None = None


def _message(
    broker: RedisStreamsBroker, schedule: str, parameters: SendParameters, message_id: str
) -> Message[Any]:
    name = parameters.actor
    if name in broker.subscriptions:
        raise InvalidSchedule(
            f"Schedule {schedule!r}: {name!r} handles events and takes no messages: use the kind "
            "`publish` with an event of its type."
        )
    try:
        actor = broker.get_actor(name)
    except ActorNotFound:
        known = sorted(set(broker.actors) - set(broker.subscriptions))
        raise InvalidSchedule(
            f"Schedule {schedule!r}: no actor {name!r} is declared here; there are "
            f"{', '.join(known) or 'none'}. Name the module that declares it in workers.handlers."
        ) from None
    made = actor.message_with_options(
        args=parameters.args, kwargs=dict(parameters.kwargs), **parameters.options
    )
    return made.copy(message_id=message_id)


def _run(context: RunContext, parameters: SendParameters) -> str:
    message = _message(context.broker, context.schedule, parameters, str(context.id))
    message = message.copy(message_timestamp=context.fired_ms)
    return context.end_with_message(message, parameters.delay_ms)


def _check(broker: RedisStreamsBroker, schedule: str, parameters: SendParameters) -> None:
    message = _message(broker, schedule, parameters, "0")
    # So that a priority which is no lane is found now.
    broker._work_queue(message.queue_name).to_enqueue(message, None)


register_kind(JobKind("send", SendParameters, _run, _check))
