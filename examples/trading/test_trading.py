"""How such a system is tested without a server: `python -m pytest trading`, in the folder above."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from streamatiq import (
    FillEvent,
    GapDetector,
    LateDetector,
    MarketDataEvent,
    OrderEvent,
    OrderStatus,
    Quote,
    SignalEvent,
    StaleDetector,
)
from streamatiq.testing import TestBroker
from trading import risk, strategy, venue, watch
from trading.check import check
from trading.events import ClockTick, FeedAlert
from trading.exchange import Exchange
from trading.feed import INJECTED, Feed
from trading.risk_book import RiskBook

MS = 1_000_000


@pytest.fixture
def broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestBroker]:
    """All handlers, on a server and in a folder of this test's own, with nothing remembered."""
    monkeypatch.setenv("TRADING_DATA", str(tmp_path))
    monkeypatch.setattr(watch, "gaps", GapDetector())
    monkeypatch.setattr(watch, "silences", StaleDetector(500))
    monkeypatch.setattr(watch, "all_silent", StaleDetector(watch.ALL_SILENT_MS))
    monkeypatch.setattr(watch, "lateness", LateDetector(out_of_orderness_ms=100))
    strategy.forget_prices()
    with TestBroker.adopt() as adopted:
        yield adopted


def quote(price: int, key: str = "SIM:A", at_ms: int = 1) -> MarketDataEvent:
    data = Quote(bid_px=price, bid_sz=7, ask_px=price + 1, ask_sz=5)
    return MarketDataEvent(ts_event=at_ms * MS, ts_recv=at_ms * MS, key=key, data=data)


def signal(direction: str = "long", price: int = 100, quantity: str = "1000") -> SignalEvent:
    return SignalEvent(
        ts_event=1,
        key="SIM:A",
        strategy="test",
        direction=direction,
        reference_price=price,
        quantity=quantity,
    )


def told(broker: TestBroker) -> list[tuple[str, str]]:
    return [(alert.kind.value, alert.feed) for alert in broker.published(FeedAlert)]


# -- strategy --------------------------------------------------------------------------------------


def test_a_turn_of_the_market_makes_one_signal(broker: TestBroker) -> None:
    prices = [*range(200, 150, -1), *range(150, 170), *range(170, 130, -1)]
    broker.publish(*(quote(price) for price in prices), *(quote(9, "SIM:B") for _ in range(50)))
    broker.run_until_idle()
    upwards, downwards = broker.published(SignalEvent)
    assert (upwards.direction, downwards.direction) == ("long", "short")
    assert upwards.key == downwards.key == "SIM:A"
    assert (upwards.quantity, downwards.quantity) == (Decimal(5), Decimal(7))
    assert 150 < (upwards.reference_price or 0) <= 171


def test_a_few_quotes_are_no_reason(broker: TestBroker) -> None:
    broker.publish(*(quote(price) for price in (100, 90, 80, 120, 150)))
    broker.run_until_idle()
    assert broker.published(SignalEvent) == []


# -- risk ------------------------------------------------------------------------------------------


def test_an_order_costs_no_more_than_the_limit_in_whole_lots(broker: TestBroker) -> None:
    assert risk.size_of(Decimal("5.00"), Decimal(100)) == 5
    assert risk.size_of(Decimal("5000.00"), Decimal("333.3")) == Decimal("30.00")
    assert str(risk.size_of(Decimal("5000.00"), Decimal(7))) == "1428.57"
    assert risk.size_of(Decimal(3), Decimal(20_000)) == 0


def test_a_signal_that_is_handled_again_makes_the_same_order(broker: TestBroker) -> None:
    again = signal()
    first, second = risk.check_risk.fn(again), risk.check_risk.fn(again)
    assert isinstance(first, OrderEvent)
    assert second == first
    assert len(RiskBook().open_orders()) == 1


def test_what_is_open_counts_against_the_limit_of_the_position(broker: TestBroker) -> None:
    Exchange().misbehave("rest", 3)
    broker.publish(*(signal() for _ in range(4)), signal("short"))
    broker.run_until_idle()
    sides = [one.side for one in broker.published(OrderEvent) if one.status == "pending_new"]
    assert sides == ["buy", "buy", "buy", "sell"]
    [(reason,)] = RiskBook().rows("SELECT reason FROM refused")
    assert reason == "the position might become 40000, more than 30000"


def test_a_fill_that_comes_twice_is_booked_once(broker: TestBroker) -> None:
    broker.publish(signal("short"))
    broker.run_until_idle()
    fills = broker.published(FillEvent)
    for fill in fills:
        risk.keep_position.fn(fill)
    assert RiskBook().rows("SELECT cost FROM positions") == [("-10000",)]


def test_the_kill_switch_refuses_new_orders_and_cancels_open_ones(broker: TestBroker) -> None:
    Exchange().misbehave("rest", 1)
    broker.publish(signal(), signal())
    broker.run_until_idle()
    assert len(RiskBook().open_orders()) == 1
    assert risk.kill("a test") == 1
    broker.publish(signal())
    broker.run_until_idle()
    ends = [one.status for one in broker.published(OrderEvent) if one.is_terminal]
    assert sorted(ends) == [OrderStatus.CANCELED, OrderStatus.FILLED]
    assert RiskBook().open_orders() == []
    assert RiskBook().rows("SELECT reason FROM refused") == [("kill switch: a test",)]


# -- venue -----------------------------------------------------------------------------------------


def test_an_order_is_filled_exactly_once_however_often_it_is_sent(broker: TestBroker) -> None:
    order = risk.check_risk.fn(signal())
    assert isinstance(order, OrderEvent)
    assert venue.known_to_exchange(order) is False
    reports = [list(venue.send_order.fn(order)) for _ in range(3)]
    fills = [[one for one in each if isinstance(one, FillEvent)] for each in reports]
    assert sum(fill.last_quantity for fill in fills[0]) == order.quantity
    assert [[one.exec_id for one in each] for each in fills] == [[f.exec_id for f in fills[0]]] * 3
    assert Exchange().rows("SELECT sent FROM orders") == [(3,)]
    known = venue.known_to_exchange(order)
    assert known is not False
    assert len(known) == len(reports[0])


def test_an_exchange_that_is_down_gets_the_order_later(broker: TestBroker) -> None:
    Exchange().misbehave("down", 2)
    broker.publish(signal())
    broker.run_until_idle()
    assert [failure.attempt for failure in broker.failures] == [1, 2]
    assert [one.status for one in broker.published(OrderEvent)][-1] is OrderStatus.FILLED
    assert RiskBook().rows("SELECT cost FROM positions") == [("10000",)]


def test_a_cancel_that_comes_before_its_order_wins(broker: TestBroker) -> None:
    order = risk.check_risk.fn(signal())
    assert isinstance(order, OrderEvent)
    broker.publish(order.cancel_requested(ts_event=2))
    broker.run_until_idle()
    broker.publish(order)
    broker.run_until_idle()
    assert broker.published(OrderEvent)[-1].status is OrderStatus.CANCELED
    assert broker.published(FillEvent) == []
    assert RiskBook().open_orders() == []


def test_a_cancel_that_comes_after_the_fill_changes_nothing(broker: TestBroker) -> None:
    broker.publish(signal())
    broker.run_until_idle()
    order = broker.published(OrderEvent)[0]
    broker.publish(order.cancel_requested(ts_event=2))
    broker.run_until_idle()
    assert all(one.status != "canceled" for one in broker.published(OrderEvent))


# -- watch, and all of it --------------------------------------------------------------------------


def test_the_feeds_that_go_on_tell_of_one_that_does_not(broker: TestBroker) -> None:
    broker.publish(quote(9, "SIM:A", 0), quote(9, "SIM:B", 0))
    broker.publish(*(quote(9, "SIM:B", ms) for ms in range(100, 900, 100)), quote(9, "SIM:A", 950))
    broker.run_until_idle()
    assert told(broker) == [("stale", "SIM:A quote"), ("back", "SIM:A quote")]


def test_the_clock_tells_when_there_is_nothing_at_all(broker: TestBroker) -> None:
    broker.publish(quote(9, at_ms=0))
    broker.run_until_idle()
    for ms in (4_000, 5_001, 5_100):
        broker.publish(ClockTick(ts_event=ms * MS))
    broker.run_until_idle()
    assert told(broker) == [("stale", "all feeds")]


def test_the_whole_system_on_a_feed_with_faults(broker: TestBroker, tmp_path: Path) -> None:
    times = iter(range(1_000 * MS, 10_000 * MS, 2 * MS))
    feed = Feed(clock_ns=lambda: next(times))
    broker.publish(*(next(feed) for _ in range(1_000)))
    broker.run_until_idle(timeout_s=20)
    (tmp_path / INJECTED).write_text("\n".join(json.dumps(one) for one in feed.injected))
    report = check()
    assert report.problems == []
    assert {one["kind"] for one in feed.injected} == {"gap", "late", "stale"}
    assert report.figures["orders"] > 10
    assert report.figures["fills"] > report.figures["orders"]

    # And the check can fail.
    (tmp_path / INJECTED).write_text("")
    assert [one[:8] for one in check().problems] == ["injected"]
    (tmp_path / "exchange.sqlite").unlink()
    problems = check().problems
    assert "the exchange has other orders" in problems
    assert "fills and the exchange's executions differ" in problems
