"""From readings of a wall clock to moments, where clocks are changed.

An expression that names hours means the clock on the wall, once a day each: a time that does not
exist (clocks go forward over it) happens in the moment of the change, and a time that exists twice
happens the first time only. One that happens in every hour means the hours that pass: what does not
exist is left out, what exists twice happens twice.

A zone is seen as stretches of one offset each. Within a stretch readings and moments correspond one
to one, so only its ends need thought. Moments are aware and in UTC, readings have no zone.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from .cron import Readings

__all__ = ["after", "moment", "zone"]

#: How far apart the offset is looked at: no zone has two changes within so short a time.
_LOOK = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_ZERO = timedelta(0)


def zone(name: str) -> ZoneInfo:
    """The time zone of this IANA name.

    Raises:
      ValueError: There is none.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"zone {name!r} is not known; use a name such as Europe/Berlin, America/New_York or UTC"
        ) from None


def after(readings: Readings, where: tzinfo, start: datetime) -> datetime | None:
    """The first moment later than `start` that the readings mean in a zone; None: there is none."""
    at = start
    if not readings.every_hour:
        at = _end_of_repetition(where, at)
        if at != start and readings.after(_reading(where, at) - _SECOND) == _reading(where, at):
            return at  # the first second that is new again
    while True:
        offset = _offset(where, at)
        found = readings.after(_naive(at) + offset)
        if found is None:
            return None
        moment_ = (found - offset).replace(tzinfo=UTC)
        change = _first_change(where, at, moment_)
        if change is None:
            return moment_
        ahead = _offset(where, change) - offset
        if ahead > _ZERO:
            # Clocks go forward: what they go over has no moment of its own.
            skipped = _naive(change) + offset
            if found < skipped + ahead and not readings.every_hour:
                return change
        elif not readings.every_hour:
            # Clocks go back: what they show again was there.
            change -= ahead
        # The first second behind the change counts, too.
        at = change
        if readings.after(_reading(where, at) - _SECOND) == _reading(where, at):
            return at


def moment(reading: datetime, where: tzinfo) -> datetime:
    """When a clock shows `reading`: the first time of two; the moment of the change if never."""
    first = reading.replace(tzinfo=where, fold=0).astimezone(UTC)
    if first.astimezone(where).replace(tzinfo=None) == reading:
        return first
    change = _first_change(where, first - _LOOK, first + _LOOK)
    return first if change is None else change


def _naive(at: datetime) -> datetime:
    return at.replace(tzinfo=None)


def _offset(where: tzinfo, at: datetime) -> timedelta:
    return at.astimezone(where).utcoffset() or _ZERO


def _reading(where: tzinfo, at: datetime) -> datetime:
    return at.astimezone(where).replace(tzinfo=None, fold=0)


def _end_of_repetition(where: tzinfo, at: datetime) -> datetime:
    """`at`, or the end of the time that clocks show for the second time then."""
    local = at.astimezone(where)
    if local.fold == 0:
        return at
    again = (local.replace(fold=0).utcoffset() or _ZERO) - (local.utcoffset() or _ZERO)
    low, high = at.replace(microsecond=0), at.replace(microsecond=0) + again
    while high - low > _SECOND:
        middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
        low, high = (middle, high) if middle.astimezone(where).fold else (low, middle)
    return high


def _first_change(where: tzinfo, start: datetime, end: datetime) -> datetime | None:
    """The first moment after `start`, `end` included, at which the offset is another."""
    offset = _offset(where, start)
    before = start
    for at in _steps(start, end):
        if _offset(where, at) != offset:
            # Changes fall on whole seconds.
            low, high = before.replace(microsecond=0), at.replace(microsecond=0)
            while high - low > _SECOND:
                middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
                same = _offset(where, middle) == offset
                low, high = (middle, high) if same else (low, middle)
            return high
        before = at
    return None


def _steps(start: datetime, end: datetime) -> Iterator[datetime]:
    at = start
    while at < end:
        at = min(at + _LOOK, end)
        yield at
