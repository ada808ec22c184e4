"""Reads the logs and both books after a run, and says what does not agree."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeVar

from streamatiq import (
    Event,
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    OrderStatus,
    SignalEvent,
    default_broker,
)

from .events import AlertKind, FeedAlert
from .exchange import Exchange
from .feed import INJECTED
from .folder import data_folder
from .risk import LIMITS
from .risk_book import RiskBook

__all__ = ["Report", "check"]

E = TypeVar("E", bound=Event)


@dataclass(slots=True)
class Report:
    """What was found: a line of figures each, and what is wrong."""

    figures: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def expect(self, holds: bool, problem: str) -> None:
        if not holds:
            self.problems.append(problem)

    def __str__(self) -> str:
        lines = [f"  {name:32} {count:7,}" for name, count in self.figures.items()]
        verdict = [f"WRONG: {problem}" for problem in self.problems] or ["All of it agrees."]
        return "\n".join([*lines, *verdict])


def check() -> Report:
    """Checks a run that has ended, with nothing left to handle."""
    report = Report()
    orders = {event.client_order_id: event for event in _log(OrderEvent) if _is_new(event)}
    report.figures["market data"] = len(_log(MarketDataEvent))
    _check_orders(report, orders)
    _check_fills(report, orders)
    _check_limits(report)
    _check_alerts(report)
    return report


def _check_orders(report: Report, orders: dict[str, OrderEvent]) -> None:
    signals = {event.id for event in _log(SignalEvent)}
    placed = [event for event in _log(OrderEvent) if _is_new(event)]
    refused = RiskBook().rows("SELECT client_order_id FROM refused")
    report.figures |= {
        "signals": len(signals),
        "orders": len(placed),
        "refused by risk": len(refused),
    }
    causes = Counter(order.causation_id for order in placed)
    report.expect(max(causes.values(), default=0) <= 1, "a signal led to more than one order")
    report.expect(causes.keys() <= signals, "an order came from no signal")
    report.expect(len(orders) == len(placed), "two orders have the same id")
    sent = Exchange().rows("SELECT client_order_id, sent FROM orders")
    report.figures["sent to the exchange twice"] = sum(int(times) > 1 for _, times in sent)
    report.expect(
        orders.keys() == {identity for identity, _ in sent}, "the exchange has other orders"
    )


def _check_fills(report: Report, orders: dict[str, OrderEvent]) -> None:
    executed = {
        row[0]: row[1:]
        for row in Exchange().rows("SELECT exec_id, client_order_id, quantity FROM executions")
    }
    fills = _log(FillEvent)
    report.figures["fills"] = len(fills)
    told = {fill.exec_id: (fill.client_order_id, str(fill.last_quantity)) for fill in fills}
    report.expect(len(told) == len(fills), "an execution was reported twice")
    report.expect(told == executed, "fills and the exchange's executions differ")
    booked = {row[0] for row in RiskBook().rows("SELECT exec_id FROM fills")}
    report.expect(booked == told.keys(), "fills and what risk has booked differ")
    filled = dict.fromkeys(orders, Decimal(0))
    for fill in fills:
        filled[fill.client_order_id] = filled.get(fill.client_order_id, 0) + fill.last_quantity
    ended = {event.client_order_id: event.status for event in _log(OrderEvent) if event.is_terminal}
    canceled = {name for name, status in ended.items() if status is OrderStatus.CANCELED}
    report.figures["cancelled"] = len(canceled)
    for identity, order in orders.items():
        want = Decimal(0) if identity in canceled else order.quantity
        report.expect(
            filled[identity] == want, f"{identity}: {filled[identity]} of {want} are filled"
        )
    left = RiskBook().rows("SELECT client_order_id FROM orders WHERE open != '0'")
    report.expect(not left, f"{len(left)} orders reserve something, and have ended")


def _check_limits(report: Report) -> None:
    positions: dict[str, Decimal] = {}
    for key, cost in RiskBook().rows("SELECT key, cost FROM fills ORDER BY rowid"):
        positions[key] = positions.get(key, Decimal(0)) + Decimal(cost)
        gross = sum(map(abs, positions.values()))
        report.expect(abs(positions[key]) <= LIMITS.position, f"{key} was at {positions[key]}")
        report.expect(gross <= LIMITS.gross, f"all positions were at {gross}")
    stored = {key: Decimal(cost) for key, cost in RiskBook().rows("SELECT * FROM positions")}
    report.expect(positions == stored, "positions are not the sum of the fills")


def _check_alerts(report: Report) -> None:
    """The watch found what the feed injected, and nothing else; a silence ends, too."""
    alerts = _log(FeedAlert)
    report.figures |= {f"alerts: {kind}": count for kind, count in _counts(alerts).items()}
    found = Counter(
        (alert.kind.value, alert.feed, alert.first_number, alert.last_number)
        for alert in alerts
        if alert.kind is not AlertKind.BACK
    )
    lines = (data_folder() / INJECTED).read_text().splitlines()
    faults = [json.loads(line) for line in lines]
    injected = Counter(
        (one["kind"], one["feed"], one.get("first_number"), one.get("last_number"))
        for one in faults
    )
    report.expect(found == injected, f"injected {dict(injected)}, found {dict(found)}")


def _counts(alerts: list[FeedAlert]) -> dict[str, int]:
    return dict(sorted(Counter(alert.kind.value for alert in alerts).items()))


def _log(cls: type[E]) -> list[E]:
    return [entry.event for entry in default_broker().logs.read(cls)]


def _is_new(order: OrderEvent) -> bool:
    return order.status is OrderStatus.PENDING_NEW
