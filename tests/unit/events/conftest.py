"""One event of each type, and a registry that forgets what a test declares."""

from __future__ import annotations

from decimal import Decimal

import pytest

from streamatiq.events import (
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    Quote,
    SignalEvent,
    registry,
)

#: 2024-08-08 23:54:13.937 UTC in ns.
TS = 1_723_161_253_937_000_000


@pytest.fixture(autouse=True)
def _forget_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        registry,
        "_classes",
        # Types of other folders' tests are known only where those were imported too.
        {
            name: one
            for name, one in registry._classes.items()
            if not one.__module__.startswith("tests.")
            or one.__module__.startswith("tests.unit.events.")
        },
    )


@pytest.fixture
def quote() -> MarketDataEvent:
    return MarketDataEvent(
        ts_event=TS,
        ts_recv=TS - 1_270_000_000,
        source="feed",
        key="BINANCE-UM:BTCUSDT",
        data=Quote(
            bid_px="61234.10", bid_sz="1.234", ask_px="61234.20", ask_sz="0.100", update_id=4711
        ),
    )


@pytest.fixture
def signal() -> SignalEvent:
    return SignalEvent(ts_event=TS, key="V:S", strategy="mean", direction="long", strength="0.5")


@pytest.fixture
def order() -> OrderEvent:
    """A limit order to buy 10 at 5, not yet accepted."""
    return OrderEvent(
        ts_event=TS,
        key="V:S",
        client_order_id="c-1",
        side="buy",
        order_type="limit",
        quantity=10,
        limit_price=5,
    )


@pytest.fixture
def fill(order: OrderEvent) -> FillEvent:
    """A fill of 4 at 4.5 of that order."""
    return FillEvent.of(
        order, exec_id="e-1", last_quantity=Decimal(4), last_price=Decimal("4.5"), ts_event=TS + 1
    )
