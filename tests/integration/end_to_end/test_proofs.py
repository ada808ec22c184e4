"""Each proof fails for what it is there to find: a run's own evidence with one thing changed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from streamatiq import DeadLetterEntry, OrderStatus

from . import proofs
from .evidence import Evidence
from .pipeline.subscriptions import FIND_SIGNAL, KEEP_POSITION, PLACE_ORDER, VENUE, WATCH
from .run import Run

Proof = Callable[[Evidence], None]
Change = Callable[[Evidence], Evidence]


def _handled(run: Evidence, name: str, change: Callable[[list[bytes]], list[bytes]]) -> Evidence:
    """With what one process noted for one subscription changed."""
    first, *others = run.handled[name].items()
    changed = dict([(first[0], change(list(first[1]))), *others])
    return replace(run, handled={**run.handled, name: changed})


def _audit(run: Evidence, name: str, **changes: Any) -> Evidence:
    return replace(run, audit={**run.audit, name: replace(run.audit[name], **changes)})


def _without(run: Evidence, log: str, found: Callable[[Any], bool]) -> Evidence:
    """Without the first event or line that is `found`."""
    kept = list(getattr(run, log))
    kept.remove(next(one for one in kept if found(one)))
    changes: dict[str, Any] = {log: kept}
    return replace(run, **changes)


def _again(run: Evidence, log: str, found: Callable[[Any], bool]) -> Evidence:
    """With the first event or line that is `found` a second time."""
    twice = list(getattr(run, log))
    changes: dict[str, Any] = {log: [*twice, next(one for one in twice if found(one))]}
    return replace(run, **changes)


def _swapped(run: Evidence) -> Evidence:
    """With two ticks of different instruments in the other order."""
    at = next(at for at, (a, b) in enumerate(itertools.pairwise(run.ticks)) if a.key != b.key)
    ticks = list(run.ticks)
    ticks[at], ticks[at + 1] = ticks[at + 1], ticks[at]
    return replace(run, ticks=ticks)


def _any(_: Any) -> bool:
    return True


def _arrival(line: dict[str, Any]) -> bool:
    return "execution" not in line


def _execution(line: dict[str, Any]) -> bool:
    return "execution" in line


LETTER = DeadLetterEntry("1-1", "log:order:0", "1-0", b"", "failed", "E", "", 1, "host:1:a", 0)

CASES: list[tuple[str, Proof, Change, str]] = [
    (
        "an event handled twice",
        proofs.each_event_is_handled_once_per_subscription,
        lambda run: _handled(run, VENUE, lambda ids: [*ids, ids[0]]),
        "ids handled by e2e.venue: 1 more than once",
    ),
    (
        "an event not handled",
        proofs.each_event_is_handled_once_per_subscription,
        lambda run: _handled(run, WATCH, lambda ids: ids[1:]),
        "ids handled by e2e.watch: 1 missing",
    ),
    (
        "an event handled that is in no log",
        proofs.each_event_is_handled_once_per_subscription,
        lambda run: _handled(run, FIND_SIGNAL, lambda ids: [*ids, bytes(16)]),
        "ids handled by e2e.find_signal: 0 missing, .* 1 too many",
    ),
    (
        "an event twice in its log",
        proofs.each_event_is_handled_once_per_subscription,
        lambda run: _again(run, "fills", _any),
        "ids in the logs of e2e.keep_position: 1 more than once",
    ),
    (
        "a subscription that nobody asks after",
        proofs.each_log_has_its_subscriptions,
        lambda run: replace(run, groups={**run.groups, "fill": {KEEP_POSITION, WATCH, "x"}}),
        "groups of fill: 0 missing, .* 1 too many",
    ),
    (
        "one process for everything",
        proofs.both_processes_took_part,
        lambda run: replace(run, handled={**run.handled, FIND_SIGNAL: {1: [bytes(16)]}}),
        "not two processes",
    ),
    (
        "rows in another order",
        proofs.the_log_is_the_recording,
        _swapped,
        "row .* of the file is",
    ),
    (
        "a row that is not in the log",
        proofs.the_log_is_the_recording,
        lambda run: replace(run, ticks=run.ticks[1:]),
        "market data in the log",
    ),
    (
        "a signal that was not emitted",
        proofs.each_strong_quote_is_one_signal,
        lambda run: _without(run, "signals", _any),
        "ids of signals: 1 missing",
    ),
    (
        "an order that reached the venue twice",
        proofs.no_order_is_placed_twice,
        lambda run: _again(run, "venue_book", _arrival),
        "orders in the venue's book: 1 more than once",
    ),
    (
        "an order that did not reach the venue",
        proofs.no_order_is_placed_twice,
        lambda run: _without(run, "venue_book", _arrival),
        "orders in the venue's book: 1 missing",
    ),
    (
        "a new order twice in the log",
        proofs.no_order_is_placed_twice,
        lambda run: _again(run, "orders", lambda one: one.status is OrderStatus.PENDING_NEW),
        "client order ids of new orders: 1 more than once",
    ),
    (
        "an execution without a fill",
        proofs.fills_are_the_venues_executions,
        lambda run: _without(run, "fills", _any),
        "executions in the log: 1 missing",
    ),
    (
        "an execution that was made twice",
        proofs.fills_are_the_venues_executions,
        lambda run: _again(run, "venue_book", _execution),
        "executions in the venue's book: 1 more than once",
    ),
    (
        "a fill that was not booked",
        proofs.fills_are_the_venues_executions,
        lambda run: _without(run, "positions", _any),
        "executions in the portfolio: 1 missing",
    ),
    (
        "a partial fill that is missing",
        proofs.fills_add_up_to_their_orders,
        lambda run: _without(run, "fills", lambda one: one.leaves_quantity > 0),
        "fills of e2e-",
    ),
    (
        "a report of the venue that is missing",
        proofs.each_order_lives_its_life_in_order,
        lambda run: _without(run, "orders", lambda one: one.status is OrderStatus.NEW),
        "life of e2e-.*: pending_new > (partially_)?filled",
    ),
    (
        "a position that is off",
        proofs.positions_agree,
        lambda run: _without(run, "positions", _any),
        "positions differ",
    ),
    (
        "an outcome that is not done",
        proofs.the_audit_agrees,
        lambda run: _audit(run, VENUE, outcomes=run.audit[VENUE].outcomes + Counter(retried=1)),
        "audit of e2e.venue: .*'retried': 1",
    ),
    (
        "audit records that were trimmed unread",
        proofs.the_audit_agrees,
        lambda run: _audit(run, PLACE_ORDER, unread=2),
        "2 audit records were not read",
    ),
    (
        "an emitted event that is in no log",
        proofs.the_audit_agrees,
        lambda run: _audit(run, PLACE_ORDER, emitted=run.audit[PLACE_ORDER].emitted + 1),
        "emitted events",
    ),
    (
        "something pending",
        proofs.nothing_is_left,
        lambda run: replace(run, backlog={**run.backlog, WATCH: 1}),
        "backlog: .*'e2e.watch': 1",
    ),
    (
        "a dead letter",
        proofs.nothing_is_left,
        lambda run: replace(run, dead_letters={**run.dead_letters, VENUE: [LETTER]}),
        "1 dead letters",
    ),
    (
        "a warning of a worker",
        proofs.the_workers_had_no_complaint,
        lambda run: replace(run, worker_log=f"{run.worker_log}\n[PID 1] [X] [WARNING] oh\n"),
        "1 complaints",
    ),
]


@pytest.mark.parametrize(
    ("proof", "change", "message"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_proof_finds(finished: Run, proof: Proof, change: Change, message: str) -> None:
    try:
        proof(finished.evidence)
    except AssertionError:
        pytest.skip("the run itself fails this proof, which test_recording reports")
    with pytest.raises(AssertionError, match=message):
        proof(change(finished.evidence))


def test_each_proof_has_something_to_find() -> None:
    assert {case[1] for case in CASES} == set(proofs.PROOFS)
