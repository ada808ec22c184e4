"""Cron expressions: which readings of a wall clock they mean.

APScheduler's CronTrigger finds the readings; what a zone makes of them is decided in `zones`. It is
given a clock without zones, because its own answers to a change of the clocks are none that could
be promised. Two things of the standard form are put right here: weekday 0 is Sunday (APScheduler's
is Monday), and where both the day of the month and the weekday are restricted, either one will do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped]

__all__ = ["FIELDS", "Readings", "readings"]

#: Names of the fields, from the largest.
FIELDS = ("year", "month", "day", "week", "day_of_week", "hour", "minute", "second")

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WEEKDAY = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([0-9]+))?")
#: No search goes on beyond this: what would first happen later never does.
_END = datetime(2200, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


class Readings:
    """The readings of a wall clock that a cron expression means.

    Parameters:
      triggers: Of APScheduler, on UTC; a reading of either one counts.
    """

    def __init__(self, triggers: list[CronTrigger]) -> None:
        self._triggers = triggers
        #: Whether they come in every hour of the day.
        self.every_hour = all(_covers_day(one) for one in triggers)

    def after(self, reading: datetime) -> datetime | None:
        """The first one that is later than `reading`; both without a zone. None: there is none."""
        # Whole seconds: what follows a reading is looked for from the next second on.
        start = reading.replace(microsecond=0, tzinfo=UTC) + _SECOND
        found = [one.get_next_fire_time(None, start) for one in self._triggers]
        naive = [one.replace(tzinfo=None) for one in found if one is not None]
        return min(naive, default=None)


def readings(expression: str | Mapping[str, str]) -> Readings:
    """Reads a cron expression.

    Parameters:
      expression: Five fields (minute, hour, day of month, month, weekday: 0 and 7 are Sunday) or
        @hourly, @daily, @weekly, @monthly, @yearly; or APScheduler's fields by name, all of which
        must hold.

    Raises:
      ValueError: It cannot be read, or never happens.
    """
    if isinstance(expression, str):
        triggers = _standard(expression)
    else:
        unknown = sorted(set(expression) - set(FIELDS))
        if unknown or not expression:
            what = f"has no field {unknown[0]!r}" if unknown else "names no field"
            raise ValueError(f"cron {what}; there are: {', '.join(FIELDS)}")
        triggers = [_trigger({name: str(value) for name, value in expression.items()})]
    made = Readings(triggers)
    if made.after(datetime(2000, 1, 1)) is None:
        raise ValueError(f"cron {expression!r} never happens: there is no such day")
    return made


def _standard(expression: str) -> list[CronTrigger]:
    fields = _MACROS.get(expression.strip(), expression).split()
    if len(fields) != 5:
        raise ValueError(
            f"cron {expression!r} has {len(fields)} fields instead of five: minute, hour, day of "
            "the month, month, day of the week, as in '30 9 * * mon-fri'; "
            f"or write one of {', '.join(_MACROS)}"
        )
    minute, hour, day, month, weekday = (field.lower() for field in fields)
    by_name = {"minute": minute, "hour": hour, "month": month, "day": day}
    by_weekday = {**by_name, "day": "*", "day_of_week": _weekdays(weekday)}
    try:
        if weekday == "*":
            return [_trigger(by_name)]
        if day.startswith("*") or weekday.startswith("*"):
            return [_trigger({**by_weekday, "day": day})]
        return [_trigger(by_name), _trigger(by_weekday)]
    except ValueError as error:
        raise ValueError(f"cron {expression!r}: {error}") from None


def _trigger(fields: Mapping[str, str]) -> CronTrigger:
    if not all(re.fullmatch(r"[\w*/, -]+", text) for text in fields.values()):
        wrong = next(text for text in fields.values() if not re.fullmatch(r"[\w*/, -]+", text))
        raise ValueError(f"{wrong!r} is no field of cron")
    return CronTrigger(**fields, end_date=_END, timezone=UTC)


def _weekdays(field: str) -> str:
    """A field with 0 or 7 for Sunday, as APScheduler's names."""
    wanted: set[int] = set()
    for part in field.split(","):
        found = _WEEKDAY.fullmatch(part)
        if found is None:
            raise ValueError(f"{part!r} is no day of the week; write 0-7 (0 and 7: Sunday) or sun")
        first, last, step = found.groups()
        begin = 0 if first is None else _weekday(first)
        end = 6 if first is None else _weekday(last or first)
        if last is not None and end == 0 < begin:
            end = 7
        if step is not None and int(step) == 0:
            raise ValueError(f"{part!r} has the step 0")
        if step is not None and first is not None and last is None:
            end = 6
        if begin > end:
            raise ValueError(f"{part!r} ends before it begins; write {last}-{first} or a list")
        wanted.update(day % 7 for day in range(begin, end + 1, int(step or 1)))
    return ",".join(_DAYS[day] for day in sorted(wanted))


def _weekday(text: str) -> int:
    if text in _DAYS:
        return _DAYS.index(text)
    if not re.fullmatch(r"[0-7]", text):
        raise ValueError(f"{text!r} is no day of the week; write 0-7 (0 and 7: Sunday) or sun")
    return int(text)


def _covers_day(trigger: CronTrigger) -> bool:
    hours = next(field for field in trigger.fields if field.name == "hour")
    at = datetime(2000, 1, 1, tzinfo=UTC)
    return all(hours.get_next_value(at.replace(hour=hour)) == hour for hour in range(24))
