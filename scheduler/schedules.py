"""`Schedules`: defines schedules, and tells what became of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from ..broker import RedisStreamsBroker
from ..broker.calls import Call
from ..broker.dead_letter_admin import operator_name
from ..errors import InvalidSchedule, ScheduleConflict, ScheduleNotFound
from . import scripts
from .definition import Schedule
from .kinds import check
from .scripts import Change
from .standing import is_standing, refuse_standing
from .store import HistoryEntry, State, read_definitions, read_history, read_state
from .timing import from_ms, to_ms

__all__ = ["MOST_SCHEDULES", "ScheduleChange", "ScheduleStatus", "Schedules"]

T = TypeVar("T")

#: Most schedules of one namespace: the leader holds all of them in memory.
MOST_SCHEDULES = 10_000


@dataclass(frozen=True, slots=True)
class ScheduleStatus:
    """A schedule, and what became of it so far."""

    schedule: Schedule
    state: State
    #: The next fire time, without jitter; None if there is none, or it is paused. One that has
    #: passed is about to run, or waits for a run to end.
    next_fire: datetime | None

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return bool(self.state.paused)


@dataclass(frozen=True, slots=True)
class ScheduleChange:
    """What one schedule is, and is to become."""

    name: str
    #: As it is stored; None if there is none.
    before: Schedule | None
    #: None removes it.
    after: Schedule | None
    #: The stored text of `before`; empty if there is none.
    stored: str = ""

    @property
    def action(self) -> str:
        """`create`, `change`, `remove` or `keep`."""
        if self.after is None:
            return "remove"
        if not self.stored:
            return "create"
        return "keep" if self.stored == self.after.to_json() else "change"


class Schedules:
    """The schedules of a broker's namespace. Thread-safe.

    What is changed here wakes the scheduler process that leads, at once. Changes of several
    schedules in one call are made together or not at all.

    Parameters:
      broker: Server, namespace, and the actors that schedules may send to.
      who: For the record of changes; default: user@host.
    """

    def __init__(self, broker: RedisStreamsBroker, *, who: str | None = None) -> None:
        self._broker = broker
        self._keys = broker.keys.scheduler
        self._who = who or operator_name()

    # -- changing ------------------------------------------------------------------------------

    def add(self, *schedules: Schedule, replace: bool = False) -> list[str]:
        """Defines schedules: all of them, or none.

        Fire times count from now; where a schedule is replaced and its times stay as they are, from
        where it is.

        Parameters:
          replace: A schedule of the same name is replaced.

        Returns:
          What became of each: `created`, `changed`, or `same`.

        Raises:
          ScheduleConflict: One of this name exists.
          InvalidSchedule: A kind, actor or event type is unknown, or it would never fire.
          BrokerError: The server cannot be reached or refused.
        """
        plan = self.plan(schedules)
        for change in plan:
            if change.action == "change" and not replace:
                raise ScheduleConflict(
                    f"A schedule {change.name!r} exists and is another: give this one another "
                    "name, or replace it."
                )
        return self.make(plan)

    def remove(self, *names: str) -> None:
        """Removes schedules: all of them, or none. A run that has begun goes on.

        Raises:
          ScheduleNotFound: There is none of this name.
          InvalidSchedule: The scheduler itself keeps it, as the settings say.
          BrokerError: The server cannot be reached or refused.
        """
        stored = self._stored()
        for name in names:
            if name not in stored:
                raise self._not_found(name, stored)
            refuse_standing(name)
        self._apply([Change(name, None, None) for name in names])

    def pause(self, name: str) -> bool:
        """Stops a schedule from firing; what runs goes on. False if it was paused.

        Raises:
          ScheduleNotFound: There is none of this name.
        """
        return self._act(name, "pause")

    def resume(self, name: str) -> bool:
        """Lets a schedule fire again; what it would have done meanwhile is not missed. False if it
        was not paused.

        Raises:
          ScheduleNotFound: There is none of this name.
        """
        return self._act(name, "resume")

    def run(self, name: str) -> bool:
        """Asks for a run now, paused or not; it begins when fewer than `max_running` runs are under
        way. False if one was asked for that has not begun.

        Raises:
          ScheduleNotFound: There is none of this name.
        """
        return self._act(name, "run")

    def plan(self, schedules: Iterable[Schedule], *, prune: bool = False) -> list[ScheduleChange]:
        """What would have to change for `schedules` to be there. Changes nothing.

        Parameters:
          prune: All others are to be removed, but for those that the scheduler itself keeps.

        Raises:
          InvalidSchedule: A kind, actor or event type is unknown, a new one would never fire, or
            two have the same name.
        """
        stored = self._stored()
        changes: list[ScheduleChange] = []
        now = to_ms(self._broker.server_time())
        seen: set[str] = set()
        for schedule in schedules:
            if schedule.name in seen:
                raise InvalidSchedule(f"Two schedules are named {schedule.name!r}: rename one.")
            seen.add(schedule.name)
            refuse_standing(schedule.name)
            check(self._broker, schedule)
            text = stored.get(schedule.name, "")
            before = Schedule.from_json(text) if text else None
            is_new = before is None or before.timing != schedule.timing
            if is_new and schedule.fire_times(now) is None:
                raise InvalidSchedule(
                    f"Schedule {schedule.name!r} would never fire: {schedule.when} is over."
                )
            changes.append(ScheduleChange(schedule.name, before, schedule, text))
        if prune:
            for name in sorted(one for one in set(stored) - seen if not is_standing(one)):
                text = stored[name]
                changes.append(ScheduleChange(name, Schedule.from_json(text), None, text))
        return changes

    def make(self, changes: Iterable[ScheduleChange]) -> list[str]:
        """Makes changes that were planned: all of them, or none.

        Returns:
          What became of each: `created`, `changed`, `same` or `removed`.

        Raises:
          ScheduleConflict: A schedule is not any more as it was planned with, or there would be
            more than `MOST_SCHEDULES`.
        """
        return self._apply(
            [
                Change(one.name, one.stored, None)
                if one.after is None
                else Change(one.name, one.stored, one.after.to_json(), one.after.timing)
                for one in changes
            ]
        )

    # -- looking -------------------------------------------------------------------------------

    def all(self) -> list[ScheduleStatus]:
        """All schedules, by name."""
        return [self._status(name, text) for name, text in self._stored().items()]

    def get(self, name: str) -> ScheduleStatus:
        """One schedule.

        Raises:
          ScheduleNotFound: There is none of this name.
        """
        stored = self._stored()
        if name not in stored:
            raise self._not_found(name, stored)
        return self._status(name, stored[name])

    def history(self, name: str, *, limit: int = 20) -> list[HistoryEntry]:
        """The newest ends of runs, and what was missed, the newest first.

        Parameters:
          limit: At most so many; `scheduler.history` are kept.

        Raises:
          ScheduleNotFound: There is none of this name.
        """
        stored = self._stored()
        if name not in stored:
            raise self._not_found(name, stored)
        return self._broker._links.call(
            lambda link: read_history(link, self._keys, name, limit=limit)
        )

    # -- parts ---------------------------------------------------------------------------------

    def _stored(self) -> dict[str, str]:
        return self._broker._links.call(lambda link: read_definitions(link, self._keys))

    def _status(self, name: str, text: str) -> ScheduleStatus:
        schedule = Schedule.from_json(text)
        state = self._broker._links.call(lambda link: read_state(link, self._keys, name))
        upcoming = None if state.paused else schedule.fire_times(state.cursor)
        return ScheduleStatus(schedule, state, None if upcoming is None else from_ms(upcoming))

    def _not_found(self, name: str, stored: Iterable[str]) -> ScheduleNotFound:
        return ScheduleNotFound(
            f"There is no schedule {name!r} in namespace {self._broker.keys.namespace!r}; there "
            f"are: {', '.join(stored) or 'none'}."
        )

    def _act(self, name: str, action: scripts.Action) -> bool:
        outcome = self._run(scripts.act(self._keys, name, action, self._who))
        if outcome == "unknown":
            raise self._not_found(name, self._stored())
        return outcome == "done"

    def _apply(self, changes: list[Change]) -> list[str]:
        if not changes:
            return []
        outcome = self._run(scripts.apply(self._keys, self._who, MOST_SCHEDULES, changes))
        if outcome[0] == "CONFLICT":
            raise ScheduleConflict(
                f"Schedule {outcome[1]!r} was changed by somebody else meanwhile; nothing was "
                "done. Look at it, and try again."
            )
        if outcome[0] == "FULL":
            raise ScheduleConflict(
                f"There may be {MOST_SCHEDULES:,} schedules in a namespace, and these would be "
                "more; nothing was done. Remove some."
            )
        return outcome

    def _run(self, call: Call[T]) -> T:
        return self._broker._links.call(lambda link: link.run(call))
