"""The demo's handlers, called by hand as the functions that they are.

In a process of its own: importing handlers sets Dramatiq's global broker.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support import run_python

PRELUDE = """
from decimal import Decimal
from streamatiq.demo import handlers
from streamatiq.events import Direction, FillEvent, MarketDataEvent, OrderEvent, Quote, Side, Trade

def market_data(data):
    return MarketDataEvent(ts_event=1, key="SIM:A", data=data)

def quote(bid_sz, ask_sz):
    return market_data(Quote(bid_px="10", bid_sz=bid_sz, ask_px="11", ask_sz=ask_sz))
"""

CASES = {
    "more buyers": """
signal = handlers.find_signal.fn(quote("1000", "1"))
assert (signal.direction, signal.reference_price, signal.quantity) == (Direction.LONG, 11, 1)
order = handlers.place_order.fn(signal)
assert (order.side, order.limit_price, order.quantity) == (Side.BUY, 11, 1)
assert order.client_order_id == handlers.place_order.fn(signal).client_order_id
""",
    "more sellers": """
signal = handlers.find_signal.fn(quote("2", "2000"))
assert (signal.direction, signal.reference_price, signal.quantity) == (Direction.SHORT, 10, 2)
assert handlers.place_order.fn(signal).side is Side.SELL
""",
    "nothing to see": """
assert handlers.find_signal.fn(quote("999", "1")) is None
assert handlers.find_signal.fn(quote("5", "0")) is None
assert handlers.find_signal.fn(quote("0", "0")) is None
assert handlers.find_signal.fn(market_data(Trade(price="10", size="1"))) is None
""",
    "fills": """
busy = 0
parts = set()
for number in range(200):
    order = OrderEvent(ts_event=1, key="SIM:A", client_order_id=f"o{number}", side=Side.BUY,
                       order_type="limit", quantity="0.001", limit_price="11")
    try:
        fills = list(handlers.fill_order.fn(order))
    except handlers.VenueBusy:
        busy += 1
        continue
    parts.add(len(fills))
    assert [fill.exec_id for fill in fills] == [f"o{number}/{n}" for n in range(1, len(fills) + 1)]
    for fill in fills:
        order = order.filled_by(fill)
    assert order.status == "filled"
assert 0 < busy < 40
assert parts == {1, 2}
""",
    "position": """
def fill(side, quantity):
    return FillEvent(ts_event=1, key="SIM:A", exec_id="e", client_order_id="o", side=side,
                     quantity=quantity, last_quantity=quantity, last_price="1",
                     cum_quantity=quantity, leaves_quantity="0")
handlers.keep_position.fn(fill(Side.BUY, "3"))
handlers.keep_position.fn(fill(Side.SELL, "0.5"))
assert handlers.position("SIM:A") == Decimal("2.5")
assert handlers.position("SIM:B") == 0
""",
}


@pytest.mark.parametrize("case", CASES)
def test_handlers(case: str, tmp_path: Path) -> None:
    run_python(PRELUDE + CASES[case], cwd=tmp_path)
