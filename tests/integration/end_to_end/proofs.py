"""What must hold of a run without faults. Each proof raises AssertionError with what is wrong.

The messages name a few examples: pytest's own comparison of a quarter of a million ids would take
longer than the run.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import TypeVar

from streamatiq import OrderEvent, OrderStatus
from streamatiq.events import emit_id

from .evidence import Evidence
from .pipeline.rule import executions
from .pipeline.subscriptions import FIND_SIGNAL, PLACE_ORDER, SUBSCRIPTIONS
from .recording import signal_rows

__all__ = ["PROOFS"]

K = TypeVar("K", bound=Hashable)
E = TypeVar("E")

#: Examples in a message, and lines of a log.
SHOWN, LINES = 3, 20


def the_log_is_the_recording(run: Evidence) -> None:
    """Each row is one event, in the order of the file, digit by digit."""
    _same_length("market data in the log", run.ticks, "rows in the file", run.rows)
    for at, (found, wanted) in enumerate(zip(run.ticks, run.rows, strict=True), 1):
        assert found == wanted, f"row {at} of the file is {wanted}, in the log {found}"


def each_event_is_handled_once_per_subscription(run: Evidence) -> None:
    """What a subscription's handlers noted is what stands in its logs: none missing, none twice."""
    _equal("subscriptions that noted arrivals", run.handled, SUBSCRIPTIONS)
    for name, classes in SUBSCRIPTIONS.items():
        logged = [one for cls in classes for one in run.ids(cls.event_type)]
        assert logged, f"{name} had nothing to do"
        _once(f"ids in the logs of {name}", logged)
        arrived = [one for ids in run.handled[name].values() for one in ids]
        _once(f"ids handled by {name}", arrived)
        _equal(f"ids handled by {name}", arrived, logged)


def each_log_has_its_subscriptions(run: Evidence) -> None:
    """The consumer groups are those that the proofs ask after."""
    for event_type, groups in run.groups.items():
        wanted = [
            name
            for name, classes in SUBSCRIPTIONS.items()
            if any(cls.event_type == event_type for cls in classes)
        ]
        _equal(f"groups of {event_type}", groups, wanted)


def both_processes_took_part(run: Evidence) -> None:
    """Two worker processes, and both handled market data."""
    shares = {pid: len(ids) for pid, ids in run.handled[FIND_SIGNAL].items()}
    assert len(shares) == 2, f"not two processes: {shares}"
    assert all(shares.values()), f"one process had nothing to do: {shares}"


def each_strong_quote_is_one_signal(run: Evidence) -> None:
    """The rule, taken again from the file, gives the signals; their ids follow from the causes."""
    wanted = [emit_id(run.tick_ids[at], FIND_SIGNAL, 0).bytes for at in signal_rows(list(run.rows))]
    _equal("ids of signals", [one.id.bytes for one in run.signals], wanted)
    keys = dict(zip(run.tick_ids, (tick.key for tick in run.ticks), strict=True))
    for one in run.signals:
        assert one.causation_id is not None, f"signal {one.id} has no cause"
        assert keys[one.causation_id] == one.key, f"signal {one.id} and its quote differ in key"
        assert one.correlation_id == one.causation_id, f"signal {one.id} lost its correlation"


def no_order_is_placed_twice(run: Evidence) -> None:
    """One new order a signal in the log, and one arrival of each in the venue's book."""
    new = [one for one in run.orders if one.status is OrderStatus.PENDING_NEW]
    _once("client order ids of new orders", [one.client_order_id for one in new])
    _equal("causes of new orders", [o.causation_id for o in new], [s.id for s in run.signals])
    wanted = [emit_id(signal.id, PLACE_ORDER, 0) for signal in run.signals]
    _equal("ids of new orders", [one.id for one in new], wanted)
    arrived = [line for line in run.venue_book if "execution" not in line]
    _once("orders in the venue's book", [line["order"] for line in arrived])
    _equal(
        "orders in the venue's book",
        [tuple(line[name] for name in _TERMS) for line in arrived],
        [
            (o.client_order_id, o.key, o.side.value, str(o.quantity), str(o.limit_price))
            for o in new
        ],
    )


def fills_are_the_venues_executions(run: Evidence) -> None:
    """No execution twice, and each in the log, in the venue's book and in the portfolio."""
    fills = [(one.exec_id, one.client_order_id, str(one.last_quantity)) for one in run.fills]
    booked = [
        (line["execution"], line["order"], line["quantity"])
        for line in run.venue_book
        if "execution" in line
    ]
    _once("executions in the log", [one.exec_id for one in run.fills])
    _once("executions in the venue's book", [line[0] for line in booked])
    _equal("executions in the log", fills, booked)
    _once("executions in the portfolio", [line["execution"] for line in run.positions])
    _equal(
        "executions in the portfolio",
        [line["execution"] for line in run.positions],
        [line[0] for line in booked],
    )


def fills_add_up_to_their_orders(run: Evidence) -> None:
    """Of each order every fill continues the one before, and the last leaves nothing."""
    orders = _by(run.orders, lambda one: one.client_order_id)
    fills = _by(run.fills, lambda one: one.client_order_id)
    _equal("orders with fills", fills, orders)
    for name, own in fills.items():
        order, filled = orders[name][0], Decimal(0)
        parts, wanted = [one.last_quantity for one in own], executions(name, order.quantity)
        assert parts == list(wanted), f"fills of {name}: {', '.join(map(str, parts))}"
        for fill in own:
            filled += fill.last_quantity
            assert fill.cum_quantity == filled, f"{fill.exec_id}: cum is not {filled}: {fill}"
            rest = order.quantity - filled
            assert fill.leaves_quantity == rest, f"{fill.exec_id}: leaves is not {rest}: {fill}"
            same = (fill.key, fill.side, fill.quantity) == (order.key, order.side, order.quantity)
            assert same, f"{fill.exec_id} is of another order than {name}"
        assert filled == order.quantity, f"{name} is filled by {filled} of {order.quantity}"


def each_order_lives_its_life_in_order(run: Evidence) -> None:
    """In the log an order goes from pending over new and partly filled to filled, without gaps."""
    fills = _by(run.fills, lambda one: one.client_order_id)
    for name, snapshots in _by(run.orders, lambda one: one.client_order_id).items():
        partly = [OrderStatus.PARTIALLY_FILLED] * (len(fills.get(name, ())) - 1)
        life = [OrderStatus.PENDING_NEW, OrderStatus.NEW, *partly, OrderStatus.FILLED]
        found = [one.status for one in snapshots]
        assert found == life, f"life of {name}: {' > '.join(found)}; should be {' > '.join(life)}"
        _check_totals(name, snapshots)


def positions_agree(run: Evidence) -> None:
    """Per instrument the portfolio, the venue's book and the log come to the same position."""
    kept: defaultdict[str, Decimal] = defaultdict(Decimal)
    for line in run.positions:
        kept[line["key"]] += Decimal(line["quantity"])
    logged: defaultdict[str, Decimal] = defaultdict(Decimal)
    for fill in run.fills:
        logged[fill.key] += fill.last_quantity if fill.side == "buy" else -fill.last_quantity
    venue: defaultdict[str, Decimal] = defaultdict(Decimal)
    for line in run.venue_book:
        if "execution" not in line:
            size = Decimal(line["quantity"])
            venue[line["key"]] += size if line["side"] == "buy" else -size
    assert kept == logged == venue, f"positions differ: {kept}, {logged}, {venue}"


def the_audit_agrees(run: Evidence) -> None:
    """Per subscription the audit counts each event of its logs as done, and nothing else."""
    for name, classes in SUBSCRIPTIONS.items():
        totals = run.audit[name]
        assert totals.unread == 0, f"{name}: {totals.unread} audit records were not read"
        logged = sum(len(run.ids(cls.event_type)) for cls in classes)
        assert totals.outcomes == {"done": logged}, (
            f"audit of {name}: {dict(totals.outcomes)}; in its logs: {logged}"
        )
        counted = sum(totals.latency.values())
        assert counted == logged, f"{name}: latencies of {counted} of {logged} events"
    emitted = sum(totals.emitted for totals in run.audit.values())
    followed = len(run.signals) + len(run.orders) + len(run.fills)
    assert emitted == followed, f"the audit counts {emitted} emitted events, the logs {followed}"


def nothing_is_left(run: Evidence) -> None:
    """Nothing is unread or pending, and nothing was given up."""
    assert not any(run.backlog.values()), f"backlog: {dict(run.backlog)}"
    dead = [letter for letters in run.dead_letters.values() for letter in letters]
    assert not dead, f"{len(dead)} dead letters, the first: {dead[0]}"


def the_workers_had_no_complaint(run: Evidence) -> None:
    """No warning and no error in their log: nothing was retried, reclaimed or reconnected."""
    bad = [line for line in run.worker_log.splitlines() if _COMPLAINT.search(line)]
    first = "\n".join(bad[:LINES])
    assert not bad, f"{len(bad)} complaints in the workers' log; the first are:\n{first}"


#: All of them; each is a test of its own.
PROOFS: Sequence[Callable[[Evidence], None]] = (
    nothing_is_left,
    the_log_is_the_recording,
    each_log_has_its_subscriptions,
    each_event_is_handled_once_per_subscription,
    both_processes_took_part,
    each_strong_quote_is_one_signal,
    no_order_is_placed_twice,
    fills_are_the_venues_executions,
    fills_add_up_to_their_orders,
    each_order_lives_its_life_in_order,
    positions_agree,
    the_audit_agrees,
    the_workers_had_no_complaint,
)

#: A line of the log that tells of trouble.
_COMPLAINT = re.compile(r"\[(WARNING|ERROR|CRITICAL)\]|Traceback")

#: What the venue writes down of an order.
_TERMS = ("order", "key", "side", "quantity", "price")


def _check_totals(name: str, snapshots: Sequence[OrderEvent]) -> None:
    for before, after in pairwise(snapshots):
        assert after.cum_quantity >= before.cum_quantity, f"{name} is filled backwards: {after}"
    last = snapshots[-1]
    assert (last.cum_quantity, last.leaves_quantity) == (last.quantity, Decimal(0)), (
        f"{name} ends as {last}"
    )


def _by(events: Iterable[E], key: Callable[[E], str]) -> dict[str, list[E]]:
    found: defaultdict[str, list[E]] = defaultdict(list)
    for one in events:
        found[key(one)].append(one)
    return dict(found)


def _same_length(what: str, found: Sequence[object], where: str, wanted: Sequence[object]) -> None:
    assert len(found) == len(wanted), f"{len(found)} {what}, {len(wanted)} {where}"


def _once(what: str, found: Iterable[K]) -> None:
    twice = [one for one, count in Counter(found).items() if count > 1]
    assert not twice, f"{what}: {len(twice)} more than once, {_examples(twice)}"


def _equal(what: str, found: Iterable[K], wanted: Iterable[K]) -> None:
    """As multisets."""
    # iter: of a mapping the keys count, not its values.
    have, want = Counter(iter(found)), Counter(iter(wanted))
    missing, extra = list(want - have), list(have - want)
    assert have == want, (
        f"{what}: {len(missing)} missing, {_examples(missing)}; "
        f"{len(extra)} too many, {_examples(extra)}"
    )


def _examples(some: Sequence[object]) -> str:
    shown = [one.hex() if isinstance(one, bytes) else str(one) for one in some[:SHOWN]]
    return f"such as {', '.join(shown) or 'none'}"
