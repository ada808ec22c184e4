"""When a schedule fires: the times that its definition means. Times are ms since 1970 UTC.

All of it is computed from the definition alone, so that every process finds the same times.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from . import zones
from .cron import readings

if TYPE_CHECKING:
    from .definition import Schedule

__all__ = ["NextAfter", "fire_times", "from_ms", "moment_ms", "to_ms"]

#: The first fire time later than a time; None: there is none.
NextAfter = Callable[[int], int | None]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
#: No fire time is later: beyond it, calendars cannot be computed with.
_LAST_MS = (datetime(2200, 1, 1, tzinfo=UTC) - _EPOCH) // _MS


def to_ms(moment: datetime) -> int:
    """An aware time as ms since 1970 UTC, rounded down."""
    return (moment - _EPOCH) // _MS


def from_ms(ms: int) -> datetime:
    """The time in UTC of ms since 1970."""
    return _EPOCH + ms * _MS


def moment_ms(text: datetime, zone: str) -> int:
    """A time that a definition names, aware or as clocks in `zone` show it, ms.

    Raises:
      ValueError: The zone is not known.
    """
    where = zones.zone(zone)
    return to_ms(text if text.tzinfo is not None else zones.moment(text, where))


def fire_times(schedule: Schedule) -> NextAfter:
    """The fire times of a schedule.

    Raises:
      ValueError: Its times cannot be read.
    """
    start = None if schedule.start is None else moment_ms(schedule.start, schedule.zone)
    end = None if schedule.end is None else moment_ms(schedule.end, schedule.zone)
    if start is not None and end is not None and end <= start:
        raise ValueError(f"end {schedule.end} is not after start {schedule.start}")
    if schedule.at is not None:
        times = _once(moment_ms(schedule.at, schedule.zone))
    elif schedule.every is not None:
        times = _interval(schedule.every, start or 0)
    else:
        assert schedule.cron is not None
        times = _cron(schedule)

    def within(after_ms: int) -> int | None:
        found = times(after_ms if start is None else max(after_ms, start - 1))
        return None if found is None or found > (_LAST_MS if end is None else end) else found

    return within


def _once(at: int) -> NextAfter:
    return lambda after_ms: at if at > after_ms else None


def _interval(every: int, first: int) -> NextAfter:
    # Not APScheduler's IntervalTrigger: that counts in floats, and over years they are not exact.
    def after(after_ms: int) -> int:
        return first + max(0, (after_ms - first) // every + 1) * every

    return after


def _cron(schedule: Schedule) -> NextAfter:
    assert schedule.cron is not None
    meant, where = readings(schedule.cron), zones.zone(schedule.zone)

    def after(after_ms: int) -> int | None:
        found = zones.after(meant, where, from_ms(after_ms))
        return None if found is None else to_ms(found)

    return after
