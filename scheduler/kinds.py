"""Kinds of runs: what a schedule can do.

A kind is a name, a pydantic model of its parameters, and a function that does one run. The kinds
of this package register themselves when it is imported; an application adds its own from a module
that the scheduler process loads (`workers.handlers`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from ..broker import RedisStreamsBroker
from ..errors import InvalidSchedule, StreamatiqError

if TYPE_CHECKING:
    from .context import RunContext
    from .definition import Schedule

__all__ = ["JobKind", "check", "kind_named", "known_kinds", "register_kind"]

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class JobKind(Generic[P]):
    """One kind of runs.

    Attributes:
      name: As definitions name it.
      parameters: What it needs to know.
      run: Does one run in a thread of the scheduler process; returns what there is to say about it,
        for the history. What it raises ends the run as failed. All that it writes goes through
        `RunContext.links` (or `logs`, `end_with_...`), so that only a leader writes.
      check: Looks at parameters before a schedule is stored: whether this program knows what they
        name. Raises a StreamatiqError or ValueError that says what is wrong.
      repeatable: Whether a run that was left by a leader that died may be done again from its
        beginning. Otherwise it ends as interrupted.
    """

    name: str
    parameters: type[P]
    run: Callable[[RunContext, P], str | None]
    check: Callable[[RedisStreamsBroker, str, P], None] | None = None
    repeatable: bool = True


#: By name. Adding to a dict is atomic.
_kinds: dict[str, JobKind[Any]] = {}


def register_kind(kind: JobKind[Any]) -> None:
    """Makes a kind known. The same name again (a module is loaded anew) replaces it."""
    _kinds[kind.name] = kind


def known_kinds() -> tuple[str, ...]:
    """The names of all kinds, sorted."""
    return tuple(sorted(_kinds))


def kind_named(schedule: Schedule) -> tuple[JobKind[Any], Any]:
    """The kind of a schedule, and its parameters.

    Raises:
      InvalidSchedule: There is no such kind, or the parameters are wrong.
    """
    kind = _kinds.get(schedule.kind)
    if kind is None:
        raise InvalidSchedule(
            f"Schedule {schedule.name!r}: there is no kind {schedule.kind!r}; there are "
            f"{', '.join(known_kinds())}. One of your own must be registered in a module that "
            "workers.handlers names."
        )
    try:
        return kind, kind.parameters.model_validate(dict(schedule.parameters))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in one['loc']) or 'parameters'}: {one['msg']}"
            for one in error.errors(include_url=False)
        )
        raise InvalidSchedule(
            f"Schedule {schedule.name!r}: parameters of {schedule.kind!r}: {faults}."
        ) from None


def check(broker: RedisStreamsBroker, schedule: Schedule) -> None:
    """Whether a schedule can run where `broker`'s actors, and this program's events, are known.

    Raises:
      InvalidSchedule: It cannot; says why, and what to do.
    """
    kind, parameters = kind_named(schedule)
    if kind.check is None:
        return
    try:
        kind.check(broker, schedule.name, parameters)
    except InvalidSchedule:
        raise
    except (StreamatiqError, ValueError) as error:
        raise InvalidSchedule(f"Schedule {schedule.name!r}: {error}") from error
