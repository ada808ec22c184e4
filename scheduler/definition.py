"""`Schedule`: what is to be done, and when. Stored as JSON, compared by it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)

from ..errors import InvalidSchedule
from .durations import milliseconds, shown
from .timing import NextAfter, fire_times
from .zones import zone as zone_named

__all__ = ["Missed", "Schedule"]

#: What becomes of fire times that could not be kept.
Missed = Literal["skip", "once", "each"]

#: How late a run may begin where missed ones are skipped and no deadline is given, ms. Longer than
#: another scheduler process takes to take over.
SKIP_DEADLINE_MS = 30_000
#: Shortest interval, ms.
SHORTEST_MS = 1000
#: A name of a schedule: at most 128 characters, safe in a key.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,127}")


def _duration(value: object) -> int:
    return milliseconds(value)


#: A length of time; whole ms here, text such as `1h30m` outside.
Duration = Annotated[int, BeforeValidator(_duration), PlainSerializer(shown, return_type=str)]


class Schedule(BaseModel):
    """One schedule. Immutable.

    Exactly one of `cron`, `every` and `at` says when it fires. Lengths of time are text (`90s`,
    `15m`, `1h30m`, `2d`), a number of seconds, or a timedelta. A time without a zone is what clocks
    in `zone` show.

    Attributes:
      name: Unique in its namespace; part of keys, metrics and the ids of what is published.
      cron: Five fields, @daily and the like, or APScheduler's fields by name; see `cron`.
      every: An interval of at least a second, counted from `start`, or else from 1970 in UTC: 15m
        means each full quarter of an hour.
      at: Once, at this time.
      zone: IANA name of the time zone, for all times here.
      start, end: No fire time is earlier, or later.
      kind: What a run does: `publish`, `send`, `requeue`, or a kind of your own.
      parameters: What the kind needs to know.
      missed: Of fire times that could not be kept: `skip` runs none, `once` the last one, `each`
        every one, in order.
      deadline: How late a run may begin; what is later counts as missed for good. Default: 30 s
        with `skip`, else none.
      jitter: Each run begins later by up to this. The same for a given name and fire time.
      max_running: How many runs there may be at a time. A fire time that comes when there are as
        many waits, and is then late.
      description: For people.

    Raises:
      InvalidSchedule: Something about it is wrong; every fault is named.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", ignored_types=(cached_property,)
    )

    name: str
    cron: str | Mapping[str, str] | None = None
    every: Duration | None = None
    at: datetime | None = None
    zone: str = "UTC"
    start: datetime | None = None
    end: datetime | None = None
    kind: str
    parameters: Mapping[str, Any] = Field(default_factory=dict)
    missed: Missed = "skip"
    deadline: Duration | None = None
    jitter: Duration = 0
    max_running: Annotated[int, Field(ge=1, le=100)] = 1
    description: Annotated[str, Field(max_length=1000)] = ""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InvalidSchedule(_explained(values.get("name"), error)) from None

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(
                "use a letter or _ and then letters, digits, '.', '_' and '-', at most 128"
            )
        return name

    @field_validator("cron", mode="before")
    @classmethod
    def _texts(cls, cron: object) -> object:
        if isinstance(cron, Mapping):
            return {str(name): str(value) for name, value in cron.items()}
        return cron

    @field_validator("zone")
    @classmethod
    def _check_zone(cls, zone: str) -> str:
        zone_named(zone)
        return zone

    @field_validator("every")
    @classmethod
    def _check_every(cls, every: int | None) -> int | None:
        if every is not None and every < SHORTEST_MS:
            raise ValueError(f"{shown(every)} is too short an interval: use 1s or more")
        return every

    @field_validator("parameters")
    @classmethod
    def _check_parameters(cls, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return dict(json.loads(json.dumps(parameters, allow_nan=False)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"they must be JSON: {error}") from None

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        given = [name for name in ("cron", "every", "at") if getattr(self, name) is not None]
        if len(given) != 1:
            what = " and ".join(given) or "none of them is"
            raise ValueError(f"give one of cron, every and at; here: {what}")
        if self.at is not None and (self.start is not None or self.end is not None):
            raise ValueError("start and end go with cron and every; with at there is one time only")
        if self.fire_times(0) is None:
            raise ValueError("it never fires between its start and end")
        return self

    @cached_property
    def fire_times(self) -> NextAfter:
        """Gives the first fire time later than a time, both ms since 1970 UTC."""
        return fire_times(self)

    @property
    def deadline_ms(self) -> int | None:
        """How late a run may begin, ms; None: however late."""
        if self.deadline is None and self.missed == "skip":
            return SKIP_DEADLINE_MS
        return self.deadline

    @property
    def when(self) -> str:
        """When it fires, for people."""
        if self.cron is not None:
            cron = self.cron
            text = cron if isinstance(cron, str) else " ".join(f"{k}={v}" for k, v in cron.items())
            return f"{text} ({self.zone})"
        if self.every is not None:
            return f"every {shown(self.every)}"
        assert self.at is not None
        return f"at {self.at.isoformat()}" + ("" if self.at.tzinfo else f" ({self.zone})")

    def to_dict(self) -> dict[str, Any]:
        """As it is stored: what differs from the defaults, as JSON has it."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def to_json(self) -> str:
        """The stored text; equal for equal schedules."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @property
    def timing(self) -> str:
        """Names the fire times: schedules of the same timing fire at the same times."""
        names = ("cron", "every", "at", "zone", "start", "end")
        stored = self.to_dict()
        text = json.dumps({name: stored.get(name) for name in names}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Reads what `to_json` wrote.

        Raises:
          InvalidSchedule: It is no schedule.
        """
        try:
            values = json.loads(text)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise InvalidSchedule(f"{text[:80]!r} is no schedule: it is no JSON object.")
        return cls(**{str(name): value for name, value in values.items()})


def _explained(name: object, error: ValidationError) -> str:
    lines = []
    for fault in error.errors(include_url=False):
        where = ".".join(str(part) for part in fault["loc"])
        said = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            said = f"there is no such field; there are {', '.join(Schedule.model_fields)}"
        elif fault["type"] not in ("value_error", "missing"):
            said = f"{said}, got {fault['input']!r:.80}"
        lines.append(f"{where}: {said}" if where else said)
    return f"Schedule {name!r}: {'; '.join(dict.fromkeys(lines))}."
