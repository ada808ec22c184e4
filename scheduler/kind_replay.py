"""`replay`: a run replays a range of logs, and ends with it.

Its id follows from the schedule and the fire time, so a run that is begun again by another leader
takes up the replay where it stood. When the process stops, the replay is interrupted.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict

from ..broker import RedisStreamsBroker
from ..errors import InvalidSchedule, ReplayNotFound
from ..events import event_class
from .context import RunContext
from .durations import milliseconds
from .kinds import JobKind, register_kind
from .replay.access import store_of
from .replay.controls import Status
from .replay.making import define_replay, resume_replay
from .replay.spec import ReplaySpec
from .replay.workers import WorkerOptions

__all__ = ["ReplayParameters"]


class ReplayParameters(BaseModel):
    """What is replayed.

    Attributes:
      types: Names of event types.
      keys: Only events of these keys.
      last: The range: so long before the fire time. Or
      start, end: A range that is always the same.
      time_basis, speed, max_rate: As of `replay`.
      target: `isolated`, or `subscription:NAME`. Never the live logs: a person decides that.
      workers, threads, handlers: Worker processes of an isolated target, and their modules.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    types: tuple[str, ...]
    keys: tuple[str, ...] | None = None
    last: Annotated[int, BeforeValidator(milliseconds)] | None = None
    start: AwareDatetime | None = None
    end: AwareDatetime | None = None
    time_basis: Literal["log", "event"] = "log"
    speed: float | Literal["max"] = "max"
    max_rate: float | None = None
    target: str = "isolated"
    workers: int = 0
    threads: int = 8
    handlers: tuple[str, ...] = ()


def _spec(schedule: str, parameters: ReplayParameters, fired_ms: int) -> ReplaySpec:
    if parameters.target == "live":
        raise InvalidSchedule(
            f"Schedule {schedule!r}: target='live' publishes into the live logs; no schedule does "
            "that. Choose 'isolated' or 'subscription:NAME', or start it by hand: "
            "streamatiq replay start --target live --allow-live."
        )
    start, end = parameters.start, parameters.end
    if parameters.last is not None:
        if start is not None or end is not None:
            raise InvalidSchedule(f"Schedule {schedule!r}: give `last`, or `start` and `end`.")
        end = datetime.fromtimestamp(fired_ms / 1000, UTC)
        start = end - timedelta(milliseconds=parameters.last)
    return ReplaySpec.of(
        [event_class(name) for name in parameters.types],
        keys=parameters.keys,
        start=start,
        end=end,
        time_basis=parameters.time_basis,
        speed=parameters.speed,
        max_rate=parameters.max_rate,
        target=parameters.target,
    )


def _options(parameters: ReplayParameters) -> WorkerOptions:
    return WorkerOptions(parameters.workers, parameters.threads, parameters.handlers)


def _run(context: RunContext, parameters: ReplayParameters) -> str:
    replay_id = context.id.hex
    broker = context.broker
    try:
        store_of(broker).get(replay_id)
    except ReplayNotFound:
        context.check_leadership()
        spec = _spec(context.schedule, parameters, context.fired_ms)
        define_replay(spec, replay_id=replay_id, workers=_options(parameters), broker=broker)
    replay = resume_replay(replay_id, broker=broker)

    def look(_: object) -> None:
        if context.stopping.is_set():
            replay.interrupt()

    report = replay.run(on_progress=look)
    if report.status == Status.INTERRUPTED.value:
        raise InterruptedError(f"replay {replay_id} was interrupted: streamatiq replay resume")
    return f"replay {replay_id}: {report.status}, {report.count:,} events, digest {report.digest}"


def _check(broker: RedisStreamsBroker, schedule: str, parameters: ReplayParameters) -> None:
    _options(parameters)
    _spec(schedule, parameters, 1_000_000_000_000)


register_kind(JobKind("replay", ReplayParameters, _run, _check))
