"""Fills: totals that fit each other and the order; overfill refused wherever it shows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from streamatiq.errors import EventDecodeError, InvalidEvent, Overfill
from streamatiq.events import FillEvent, Liquidity, OrderEvent, decode, encode

FIELDS: dict[str, Any] = {
    "ts_event": 1,
    "key": "V:S",
    "exec_id": "e-1",
    "client_order_id": "c-1",
    "side": "sell",
    "quantity": "10",
    "last_quantity": "2.5",
    "last_price": "-1.5",
    "cum_quantity": "7.5",
    "leaves_quantity": "2.5",
}


def test_a_fill_of_an_order(order: OrderEvent, fill: FillEvent) -> None:
    assert (fill.key, fill.client_order_id, fill.side) == ("V:S", "c-1", "buy")
    assert (fill.quantity, fill.last_quantity, fill.cum_quantity, fill.leaves_quantity) == (
        10,
        4,
        4,
        6,
    )
    assert fill.causation_id == fill.correlation_id == order.id
    assert fill.liquidity is Liquidity.UNKNOWN
    assert (fill.fee, fill.fee_currency) == (None, None)


def test_a_fill_with_a_rebate(order: OrderEvent) -> None:
    fill = FillEvent.of(
        order,
        exec_id="e",
        last_quantity=Decimal(10),
        last_price=Decimal("4.90"),
        ts_event=2,
        fee=Decimal("-0.01"),
        fee_currency="USDT",
        liquidity=Liquidity.MAKER,
        source="venue",
    )
    assert (fill.fee, fill.fee_currency, fill.source) == (Decimal("-0.01"), "USDT", "venue")
    assert fill.leaves_quantity == 0
    assert decode(encode(fill)) == fill


def test_more_than_the_order_leaves(order: OrderEvent) -> None:
    with pytest.raises(Overfill, match=r"'e' of 10\.5 exceeds what order 'c-1' leaves: 10 of 10"):
        FillEvent.of(
            order, exec_id="e", last_quantity=Decimal("10.5"), last_price=Decimal(1), ts_event=2
        )


@pytest.mark.parametrize("value", [2.5, 0, "x", None])
def test_what_is_no_quantity(order: OrderEvent, value: Any) -> None:
    with pytest.raises(InvalidEvent) as caught:
        FillEvent.of(order, exec_id="e", last_quantity=value, last_price="1", ts_event=2)
    assert "field 'last_quantity': give a Decimal above 0" in str(caught.value)
    assert f"got {value!r} ({type(value).__name__})" in str(caught.value)


def test_more_than_was_ordered() -> None:
    over = FIELDS | {"leaves_quantity": "2.50000001"}
    with pytest.raises(Overfill, match=r"'e-1' of order 'c-1'.*7\.5.*2\.50000001.*quantity 10$"):
        FillEvent(**over)
    wire = encode(FillEvent(**FIELDS)).replace(b'"leaves_quantity":"2.5"', b'"leaves_quantity":"3"')
    with pytest.raises(EventDecodeError, match=r"Not a fill event: Fill 'e-1'.*exceed.*10$"):
        decode(wire)


def test_leaves_may_be_less_than_the_rest() -> None:
    assert FillEvent(**FIELDS | {"leaves_quantity": 0}).leaves_quantity == 0


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"cum_quantity": "2"}, r"field 'cum_quantity': 2 .*less than last_quantity 2\.5"),
        ({"last_quantity": 0}, "field 'last_quantity'.*above 0.*got 0"),
        ({"last_quantity": 2.5}, r"field 'last_quantity'.*got 2.5 \(float\)"),
        ({"leaves_quantity": "-1"}, "field 'leaves_quantity'.*got '-1'"),
        ({"exec_id": ""}, "field 'exec_id'.*got ''"),
        ({"fee": "1"}, r"field 'fee_currency'.*Decimal\('1'\).*None"),
        ({"fee_currency": "USD"}, "field 'fee_currency'.*None.*'USD'"),
        ({"liquidity": "both"}, "field 'liquidity'.*got 'both'"),
    ],
)
def test_refused_values(bad: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidEvent, match=complaint):
        FillEvent(**FIELDS | bad)
