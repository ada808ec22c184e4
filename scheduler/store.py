"""Schedules as they stand on the server: definitions, states, runs, history. Reading only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..broker.connections import Link
from ..broker.keys import SchedulerKeys

__all__ = ["HistoryEntry", "RunRecord", "State", "read_definitions", "read_history", "read_state"]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run that has begun and not ended. Times are ms since 1970 UTC."""

    number: int
    #: The fire time that it is for; when it was asked for.
    fired_ms: int
    began_ms: int
    #: How often it was begun: more than once where its leader died.
    attempts: int
    #: Somebody asked for it.
    asked: bool
    #: Epoch and name of the scheduler process.
    by: str

    @classmethod
    def parse(cls, number: bytes, text: bytes) -> RunRecord:
        fired, began, attempts, asked, by = text.decode().split(" ", 4)
        return cls(int(number), int(fired), int(began), int(attempts), asked == "1", by)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """The end of a run, or fire times that were missed. Times are ms since 1970 UTC."""

    #: `done`, `failed`, `interrupted` or `missed`.
    outcome: str
    #: Of the run; of missed ones, the first.
    fired_ms: int
    ended_ms: int
    number: int = 0
    began_ms: int = 0
    attempts: int = 0
    asked: bool = False
    by: str = ""
    detail: str = ""
    #: How many fire times were missed, and the last of them.
    count: int = 0
    last_ms: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """What became of a schedule so far. Times are ms since 1970 UTC."""

    #: The last fire time that was dealt with.
    cursor: int = 0
    #: Since when it is paused, and by whom; empty if it is not.
    paused: str = ""
    #: When a run was asked for that has not begun, and by whom; empty if none was.
    asked: str = ""
    #: Ends of runs, by outcome; and fire times that were missed.
    totals: dict[str, int] = field(default_factory=dict)
    #: The last run that ended.
    last: HistoryEntry | None = None
    runs: tuple[RunRecord, ...] = ()


def read_definitions(link: Link, keys: SchedulerKeys) -> dict[str, str]:
    """The stored text of every schedule, by name in order."""
    flat = [one.decode() for one in link.send("HGETALL", keys.schedules)]
    return dict(sorted(zip(flat[::2], flat[1::2], strict=True)))


def read_state(link: Link, keys: SchedulerKeys, name: str) -> State:
    """The state of one schedule, and its runs."""
    replies = link.send_many([("HGETALL", keys.state(name)), ("HGETALL", keys.runs(name))])
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    stored, running = replies
    values = {
        key.decode(): value.decode() for key, value in zip(stored[::2], stored[1::2], strict=True)
    }
    runs = [
        RunRecord.parse(number, text)
        for number, text in zip(running[::2], running[1::2], strict=True)
    ]
    outcomes = ("done", "failed", "interrupted", "missed")
    last = None
    if "last.outcome" in values:
        last = HistoryEntry(
            values["last.outcome"],
            int(values["last.fired"]),
            int(values["last.ended"]),
            int(values["last.number"]),
            int(values["last.began"]),
            detail=values["last.detail"],
        )
    return State(
        int(values.get("cursor", 0)),
        values.get("paused", ""),
        values.get("asked", ""),
        {one: int(values[one]) for one in outcomes if one in values},
        last,
        tuple(sorted(runs, key=lambda run: run.number)),
    )


def read_history(link: Link, keys: SchedulerKeys, name: str, *, limit: int) -> list[HistoryEntry]:
    """The newest entries of a schedule's history, the newest first."""
    entries = link.send("XREVRANGE", keys.history(name), "+", "-", "COUNT", limit)
    return [_entry(fields) for _, fields in entries]


def _entry(fields: list[bytes]) -> HistoryEntry:
    values: dict[str, Any] = {
        key.decode(): value.decode() for key, value in zip(fields[::2], fields[1::2], strict=True)
    }
    return HistoryEntry(
        values["outcome"],
        int(values["fired"]),
        int(values["ended"]),
        int(values.get("number", 0)),
        int(values.get("began", 0)),
        int(values.get("attempts", 0)),
        values.get("asked") == "1",
        values.get("by", ""),
        values.get("detail", ""),
        int(values.get("count", 0)),
        int(values.get("last", 0)),
    )
