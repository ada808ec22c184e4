"""What `streamatiq schedule` prints."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime

from ..broker.wording import counted
from ..scheduler.definition import Schedule
from ..scheduler.schedules import ScheduleChange, ScheduleStatus
from ..scheduler.store import HistoryEntry
from ..scheduler.timing import from_ms

__all__ = [
    "as_json",
    "difference",
    "history_json",
    "history_lines",
    "list_lines",
    "show_lines",
]

_SIGNS = {"create": "+", "change": "~", "remove": "-"}


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def _next(status: ScheduleStatus) -> str:
    if status.paused:
        return "paused"
    return _time(status.next_fire)


def _last(status: ScheduleStatus) -> str:
    last = status.state.last
    if status.state.runs:
        return f"running since {_time(from_ms(status.state.runs[0].began_ms))}"
    return "-" if last is None else f"{last.outcome} {_time(from_ms(last.ended_ms))}"


def as_json(status: ScheduleStatus) -> str:
    """One schedule as one line of JSON. Times are ms since 1970 UTC, but for the definition's."""
    state = status.state
    upcoming = status.next_fire
    return json.dumps(
        {
            "name": status.schedule.name,
            "definition": status.schedule.to_dict(),
            "next_ms": None if upcoming is None else int(upcoming.timestamp() * 1000),
            "paused": state.paused or None,
            "asked": state.asked or None,
            "totals": state.totals,
            "last": None if state.last is None else _entry(state.last),
            "runs": [
                {
                    "number": run.number,
                    "fired_ms": run.fired_ms,
                    "began_ms": run.began_ms,
                    "attempts": run.attempts,
                    "by": run.by,
                }
                for run in state.runs
            ],
        }
    )


def list_lines(found: Sequence[ScheduleStatus]) -> Iterator[str]:
    """A table of all schedules."""
    if not found:
        yield "No schedule is defined."
        return
    rows = [("NAME", "KIND", "WHEN", "NEXT (UTC)", "LAST (UTC)")]
    rows += [
        (one.schedule.name, one.schedule.kind, one.schedule.when, _next(one), _last(one))
        for one in found
    ]
    yield from _table(rows)


def show_lines(status: ScheduleStatus) -> Iterator[str]:
    """All that is known of one schedule."""
    state = status.state
    yield f"{status.schedule.name}: {status.schedule.when}"
    yield from _pretty(status.schedule)
    yield f"next:    {_next(status)}"
    if state.paused:
        since, _, who = state.paused.partition(" ")
        yield f"paused:  since {_time(from_ms(int(since)))} by {who}"
    if state.asked:
        since, _, who = state.asked.partition(" ")
        yield f"asked:   a run, at {_time(from_ms(int(since)))} by {who}; it has not begun"
    totals = ", ".join(f"{count:,} {outcome}" for outcome, count in state.totals.items())
    yield f"so far:  {totals or 'nothing'}"
    for run in state.runs:
        times = "" if run.attempts == 1 else f", for the {run.attempts}. time"
        yield f"running: {run.number} since {_time(from_ms(run.began_ms))} by {run.by}{times}"
    if state.last is not None:
        yield from history_lines([state.last])


def _pretty(schedule: Schedule) -> Iterator[str]:
    stored = schedule.to_dict()
    del stored["name"]
    for field, value in stored.items():
        yield f"  {field}: {value if isinstance(value, str) else json.dumps(value)}"


def _entry(entry: HistoryEntry) -> dict[str, object]:
    if entry.outcome == "missed":
        return {
            "outcome": "missed",
            "count": entry.count,
            "first_ms": entry.fired_ms,
            "last_ms": entry.last_ms,
            "noted_ms": entry.ended_ms,
        }
    return {
        "outcome": entry.outcome,
        "number": entry.number,
        "fired_ms": entry.fired_ms,
        "began_ms": entry.began_ms,
        "ended_ms": entry.ended_ms,
        "attempts": entry.attempts,
        "asked": entry.asked,
        "by": entry.by,
        "detail": entry.detail,
    }


def history_json(entry: HistoryEntry) -> str:
    """One entry as one line of JSON. Times are ms since 1970 UTC."""
    return json.dumps(_entry(entry))


def history_lines(entries: Sequence[HistoryEntry]) -> Iterator[str]:
    """A table of entries."""
    if not entries:
        yield "Nothing has happened yet."
        return
    rows = [("FIRED (UTC)", "OUTCOME", "LATE", "TOOK", "WHAT")]
    for entry in entries:
        fired = _time(from_ms(entry.fired_ms))
        if entry.outcome == "missed":
            until = "" if entry.count == 1 else f", the last at {_time(from_ms(entry.last_ms))}"
            rows.append((fired, "missed", "-", "-", f"{counted(entry.count, 'fire time')}{until}"))
            continue
        late = "asked" if entry.asked else _seconds(entry.began_ms - entry.fired_ms)
        took = _seconds(entry.ended_ms - entry.began_ms)
        rows.append((fired, entry.outcome, late, took, entry.detail))
    yield from _table(rows)


def difference(changes: Sequence[ScheduleChange], wanted: int) -> Iterator[str]:
    """What would change, field by field."""
    for change in changes:
        yield f"{_SIGNS[change.action]} {change.name}"
        before = [] if change.before is None else list(_pretty(change.before))
        after = [] if change.after is None else list(_pretty(change.after))
        if change.action == "change":
            lines = difflib.ndiff(before, after)
            yield from (f"  {line}" for line in lines if line[0] in "+-")
        else:
            yield from (f"    {line}" for line in [*before, *after])
    if not changes:
        yield f"No difference: {counted(wanted, 'schedule')}."


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.3f} s" if ms < 100_000 else f"{ms / 60_000:.0f} min"


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(
            f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()
