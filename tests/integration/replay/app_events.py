"""Event types of `app`; its handlers are for other processes, since they need a broker."""

from __future__ import annotations

from streamatiq import Event, Partitioned

__all__ = ["Alarm", "Reading", "Report"]


class Reading(Event, type="app.reading", log=Partitioned(4)):
    """A cause."""

    n: int


class Alarm(Event, type="app.alarm", log=Partitioned(2)):
    """An effect."""

    n: int


class Report(Event, type="app.report", log=Partitioned(1)):
    """An effect of an effect."""

    text: str
