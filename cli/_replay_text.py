"""What `streamatiq replay` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..broker.wording import counted
from ..scheduler.replay import Record, ReplayDiff, ReplayReport
from ..scheduler.replay.report import moment

__all__ = ["diff_json", "diff_lines", "list_lines", "record_json", "show_lines", "speed_text"]

#: Longest value that a difference shows, characters.
SHOWN = 60


def speed_text(speed: float) -> str:
    """A speed for people."""
    return "max" if speed == float("inf") else f"{speed:g}x"


def list_lines(records: list[Record]) -> Iterator[str]:
    """A line a replay, oldest first."""
    yield f"{'ID':<16} {'STATUS':<12} {'TARGET':<20} {'SPEED':>6} {'DONE':>5} {'EVENTS':>10}  TYPES"
    for one in records:
        spec = one.definition.spec
        yield (
            f"{one.definition.replay_id:<16} {one.standing:<12} {spec.target or '':<20} "
            f"{speed_text(one.speed):>6} {one.fraction:>5.0%} {one.progress.count:>10,}  "
            f"{', '.join(spec.types)}"
        )


def show_lines(record: Record) -> Iterator[str]:
    """All that is known of a replay."""
    made, spec = record.definition, record.definition.spec
    start = "the beginning" if spec.start_ns is None else moment(spec.start_ns)
    end = "the end" if spec.end_ns is None else moment(spec.end_ns)
    yield f"{made.replay_id}: {record.standing}, {record.fraction:.0%}"
    yield f"types:  {', '.join(spec.types)}" + (f", of {', '.join(spec.keys)}" if spec.keys else "")
    yield f"asked:  {start} to {end}, by {spec.time_basis} time"
    rate = "" if spec.max_rate is None else f", at most {spec.max_rate:g} events/s"
    yield f"speed:  {speed_text(record.speed)}{rate}"
    yield f"target: {spec.target}"
    if made.workers:
        workers = counted(made.workers, "process", "processes")
        yield f"workers: {workers} of {made.threads} threads, {', '.join(made.handlers)}"
    if made.checkpoint:
        yield f"checkpoint: {made.checkpoint}"
    report = ReplayReport.of(record.standing.value, record.progress, made.replay_id, record.output)
    yield from report.lines()[1:]
    if record.progress.last_place:
        yield f"last:   {record.progress.last_place}"
    if record.eta_s is not None:
        yield f"eta:    about {record.eta_s:,.0f} s"
    if record.error:
        yield f"error:  {record.error}"


def record_json(record: Record) -> str:
    """The same for programs."""
    made = record.definition
    report = ReplayReport.of(record.standing.value, record.progress, made.replay_id, record.output)
    return json.dumps(
        {
            "id": made.replay_id,
            **made.spec.to_dict(),
            "created_ms": made.created_ms,
            "workers": made.workers,
            "handlers": list(made.handlers),
            "checkpoint": made.checkpoint,
            "speed": "max" if record.speed == float("inf") else record.speed,
            "fraction": record.fraction,
            "eta_s": record.eta_s,
            "last": record.progress.last_place,
            "error": record.error,
            "report": report.to_dict(),
        }
    )


def diff_lines(one: str, other: str, diff: ReplayDiff) -> Iterator[str]:
    """What differs, the first ones in full."""
    yield f"A {one}: {diff.events[0]:,} events; B {other}: {diff.events[1]:,} events"
    if diff.same:
        yield "No difference."
        return
    for (type_name, kind), count in sorted(diff.counts.items()):
        yield f"{type_name}: {count:,} {kind}"
    for difference in diff.first:
        event = difference.either
        at = moment(difference.ts_event) if difference.ts_event else "-"
        yield f"{at}  {event.type} {event.key} {event.event_id}  {difference.kind}"
        for path, before, after in difference.fields():
            yield f"    {path}: {_short(before)} -> {_short(after)}"
        if not difference.fields():
            yield f"    {event.text[:200]}"
    left = diff.counts.total() - len(diff.first)
    if left:
        yield f"... and {left:,} more"


def diff_json(diff: ReplayDiff) -> str:
    """The same for programs."""
    return json.dumps(
        {
            "same": diff.same,
            "events": list(diff.events),
            "counts": [
                {"type": type_name, "kind": kind, "count": count}
                for (type_name, kind), count in sorted(diff.counts.items())
            ],
            "first": [
                {
                    "type": one.either.type,
                    "key": one.either.key,
                    "id": one.either.event_id,
                    "kind": one.kind,
                    "before": None if one.before is None else json.loads(one.before.text),
                    "after": None if one.after is None else json.loads(one.after.text),
                }
                for one in diff.first
            ],
        }
    )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
