"""Audit records: one a settled batch and source, written by the settle itself.

A record is JSON. Both levels hold `writer` (the consumer), `batch` (its number), `at` (ms, the
writer's clock), `n` (entries), a count an outcome, and `latency`: publish to handler start as a
histogram (see `histogram`). `counts` adds the sums `waited_us` (claimed to started), `ran_us`
(started to done) and `emitted`; `full` adds a list an entry:

    [event id, entry id, outcome, attempt, published us, then, in us after published: appended,
     claimed, started, done; [emitted event ids]]

What an operator does with dead letters leaves records of the same shape with `n` 0, `writer` the
operator (user@host) and `action`: `requeue` or `purge`, with `letter` and `entry`, one a letter; or
`expire`, with how many `letters`, and the `first` and `last` of them. A subscription that is put
back leaves one with `restore`, the `checkpoint`, the `position` and how many entries are `pending`;
one that is given up `abandon`, how many entries were `left`, and `why`.

The newest 100,000 records or so of each stream and subscription are kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from .histogram import bucket
from .sources import AuditLevel

if TYPE_CHECKING:
    from .settlements import Settlement

__all__ = ["record"]


def _entry(one: Settlement) -> list[Any]:
    published = one.times.published
    return [
        one.event_id.hex(),
        one.entry_id.decode(),
        one.action.outcome,
        one.attempt,
        published // 1000,
        *((at - published) // 1000 if at else None for at in one.times[1:]),
        [emit.event_id.hex() for emit in one.emits],
    ]


def record(level: AuditLevel, writer: str, number: int, settlements: Sequence[Settlement]) -> bytes:
    """The audit record of `settlements`, all of one source; empty when its audit is off."""
    if level is AuditLevel.OFF:
        return b""
    latency: Counter[int] = Counter()
    waited_ns = ran_ns = emitted = 0
    for one in settlements:
        published, _, claimed, started, done = one.times
        if done:  # it was run
            if published and one.attempt == 1:
                latency[bucket((started - published) / 1000)] += 1
            waited_ns += started - claimed
            ran_ns += done - started
        emitted += len(one.emits)
    what: dict[str, Any] = {
        "writer": writer,
        "batch": number,
        "at": time.time_ns() // 1_000_000,
        "n": len(settlements),
        **Counter(one.action.outcome for one in settlements),
        "latency": latency,
    }
    if level is AuditLevel.FULL:
        what["entries"] = [_entry(one) for one in settlements]
    else:
        what |= {"waited_us": waited_ns // 1000, "ran_us": ran_ns // 1000, "emitted": emitted}
    return to_json(what)
