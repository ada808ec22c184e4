"""`requeue`: a run lets dead letters run again. Each goes back once, however often it runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

from ..broker import DeadLetterFilter, RedisStreamsBroker
from .context import RunContext
from .durations import milliseconds
from .kinds import JobKind, register_kind

__all__ = ["RequeueParameters"]


class RequeueParameters(BaseModel):
    """Which dead letters run again.

    Attributes:
      queue: Work queue or subscription.
      causes, subjects, error, digests: As of `DeadLetterFilter`: every condition must hold.
      min_age, max_age: Only letters that were given up at least, or at most, so long before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    queue: str
    causes: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    error: str = ""
    digests: tuple[str, ...] = ()
    min_age: Annotated[int, BeforeValidator(milliseconds)] = 0
    max_age: Annotated[int, BeforeValidator(milliseconds)] | None = None


def _filter(parameters: RequeueParameters, now: datetime) -> DeadLetterFilter:
    age, oldest = parameters.min_age, parameters.max_age
    return DeadLetterFilter(
        causes=parameters.causes,
        subjects=parameters.subjects,
        error=parameters.error,
        digests=parameters.digests,
        until=now - timedelta(milliseconds=age) if age else None,
        since=None if oldest is None else now - timedelta(milliseconds=oldest),
    )


def _run(context: RunContext, parameters: RequeueParameters) -> str:
    where = _filter(parameters, context.server_time())
    tally = context.dead_letters().requeue(
        parameters.queue, where, by=f"schedule:{context.schedule}"
    )
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(tally.items()))
    return f"{parameters.queue}: {said or 'no letter'}"


def _check(broker: RedisStreamsBroker, schedule: str, parameters: RequeueParameters) -> None:
    _filter(parameters, datetime.now(UTC))
    name = parameters.queue
    if name not in broker.queues and name not in broker.subscriptions:
        known = broker.known_queues()
        if name not in known:
            raise ValueError(
                f"{name!r} is no queue or subscription of namespace {broker.keys.namespace!r}; "
                f"known: {', '.join(known) or 'none yet'}"
            )


register_kind(JobKind("requeue", RequeueParameters, _run, _check))
