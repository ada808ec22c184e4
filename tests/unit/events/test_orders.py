"""Orders: terms that fit the order type, and the steps of a life with their quantities."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from streamatiq.errors import EventDecodeError, IllegalTransition, InvalidEvent, Overfill
from streamatiq.events import FillEvent, OrderEvent, OrderStatus, decode, encode, new_id

FIELDS: dict[str, Any] = {
    "ts_event": 1,
    "key": "V:S",
    "client_order_id": "c-1",
    "side": "buy",
    "order_type": "limit",
    "quantity": "10",
    "limit_price": "5",
}


def filled(order: OrderEvent, quantity: str, price: str, exec_id: str = "e") -> OrderEvent:
    return order.filled_by(
        FillEvent.of(
            order,
            exec_id=exec_id,
            last_quantity=Decimal(quantity),
            last_price=Decimal(price),
            ts_event=order.ts_event + 1,
        )
    )


def test_a_new_order_is_pending_with_everything_open() -> None:
    order = OrderEvent(**FIELDS)
    assert (order.status, order.cum_quantity, order.leaves_quantity) == ("pending_new", 0, 10)
    assert (order.avg_price, order.order_id, order.time_in_force) == (None, None, "day")
    assert not order.is_terminal
    assert decode(encode(order)) == order


@pytest.mark.parametrize(
    "terms",
    [
        {"order_type": "market", "limit_price": None},
        {"order_type": "stop", "limit_price": None, "stop_price": "-4"},
        {"order_type": "stop_limit", "stop_price": "6"},
        {"time_in_force": "gtd", "expire_at": 5},
        {"time_in_force": "fok"},
    ],
)
def test_terms_that_fit(terms: dict[str, Any]) -> None:
    order = OrderEvent(**FIELDS | terms)
    assert decode(encode(order)) == order


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"limit_price": None}, "'limit_price' is missing: a limit order needs it"),
        ({"order_type": "market"}, r"'limit_price': a market order has none, got Decimal\('5'\)"),
        ({"order_type": "stop", "limit_price": None}, "'stop_price' is missing: a stop order"),
        ({"stop_price": "4"}, r"'stop_price': a limit order has none, got Decimal\('4'\)"),
        ({"order_type": "stop_limit"}, "'stop_price' is missing: a stop_limit order"),
        ({"time_in_force": "gtd"}, "'expire_at' is missing: time in force gtd needs it"),
        ({"expire_at": 5}, "'expire_at': time in force day has none, got 5"),
        ({"quantity": None}, "'quantity': give a Decimal above 0.*got None"),
        ({"quantity": "0"}, "'quantity': give a Decimal above 0.*got '0'"),
        ({"quantity": 1.5}, r"'quantity': .*got 1.5 \(float\)"),
        ({"limit_price": float("nan")}, r"'limit_price': .*got nan \(float\)"),
        ({"client_order_id": ""}, "'client_order_id': .*got ''"),
        ({"side": "long"}, "'side': .*got 'long'"),
        ({"status": "replaced"}, "'status': .*got 'replaced'"),
        ({"leaves_quantity": "9"}, r"'leaves_quantity': a pending_new .* leaves 10, got Dec.*'9'"),
        ({"cum_quantity": "1"}, "'leaves_quantity' is missing"),
    ],
)
def test_refused_values(bad: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidEvent, match=f"field {complaint}"):
        OrderEvent(**FIELDS | bad)


def test_a_missing_quantity_is_named() -> None:
    fields = {name: value for name, value in FIELDS.items() if name != "quantity"}
    with pytest.raises(InvalidEvent, match="field 'quantity' is missing"):
        OrderEvent(**fields)


@pytest.mark.parametrize(
    ("status", "cum", "leaves", "avg", "complaint"),
    [
        ("new", "11", "0", "5", r"'cum_quantity': Decimal\('11'\).* is more than the ordered 10"),
        ("new", "1", "9", "5", r"'cum_quantity': in a new order nothing is filled, got .*'1'"),
        ("pending_new", "1", "9", "5", "'cum_quantity': in a pending_new order nothing"),
        ("rejected", "1", "0", "5", "'cum_quantity': in a rejected order nothing"),
        ("partially_filled", "0", "10", None, "'cum_quantity': .* a part is filled, got .*'0'"),
        ("partially_filled", "10", "0", "5", "'cum_quantity': .* a part is filled, got .*'10'"),
        ("filled", "9", "0", "5", "'cum_quantity': in a filled order everything is filled"),
        ("canceled", "10", "0", "5", "'cum_quantity': .*something is still open"),
        ("pending_cancel", "10", "0", "5", "'cum_quantity': .*something is still open"),
        ("canceled", "4", "6", "5", "'leaves_quantity': a canceled order .* leaves 0, got .*'6'"),
        ("partially_filled", "4", "5", "5", "'leaves_quantity': .* leaves 6, got .*'5'"),
        ("partially_filled", "4", "6", None, "'avg_price': .* 4 filled has one, got None"),
        ("new", "0", "10", "5", "'avg_price': .* 0 filled has none, got .*'5'"),
    ],
)
def test_quantities_that_disagree(
    status: str, cum: str, leaves: str, avg: str | None, complaint: str
) -> None:
    fields = FIELDS | {
        "status": status,
        "cum_quantity": cum,
        "leaves_quantity": leaves,
        "avg_price": avg,
    }
    with pytest.raises(InvalidEvent, match=f"field {complaint}"):
        OrderEvent(**fields)


def test_disagreeing_quantities_on_the_wire(order: OrderEvent) -> None:
    data = encode(order).replace(b'"leaves_quantity":"10"', b'"leaves_quantity":"9"')
    with pytest.raises(EventDecodeError, match="Not a order event: field 'leaves_quantity'"):
        decode(data)


def test_a_step_is_a_new_event_caused_by_the_one_before(order: OrderEvent) -> None:
    order = order.stamped(9)
    accepted = order.accepted(ts_event=7, order_id="v-1")
    again = accepted.cancel_requested(ts_event=8)
    assert (accepted.status, accepted.order_id, accepted.ts_event) == ("new", "v-1", 7)
    assert accepted.id != order.id
    assert accepted.causation_id == accepted.correlation_id == order.id
    assert (again.causation_id, again.correlation_id) == (accepted.id, order.id)
    assert again.order_id == "v-1"
    assert accepted.ts_published is None
    assert order.status == "pending_new"


def test_a_step_keeps_the_correlation_it_has(order: OrderEvent) -> None:
    own = new_id()
    order = OrderEvent(**FIELDS | {"correlation_id": own})
    assert order.accepted(ts_event=2).correlation_id == own


def test_reasons_belong_to_one_step(order: OrderEvent) -> None:
    refused = order.rejected(ts_event=2, reason="no margin")
    assert (refused.status, refused.reason, refused.leaves_quantity) == ("rejected", "no margin", 0)
    assert refused.is_terminal
    assert order.accepted(ts_event=2).reason is None
    held = order.to(OrderStatus.SUSPENDED, ts_event=2, reason="halt")
    assert held.accepted(ts_event=3).reason is None
    assert filled(held, "1", "5").reason is None


def test_ends(order: OrderEvent) -> None:
    live = order.accepted(ts_event=2)
    assert live.canceled(ts_event=3).status == "canceled"
    assert live.expired(ts_event=3, reason="day is over").reason == "day is over"
    part = filled(live, "4", "5")
    ended = part.canceled(ts_event=9)
    assert (ended.cum_quantity, ended.leaves_quantity, ended.avg_price) == (4, 0, 5)


def test_fills_add_up(order: OrderEvent) -> None:
    part = filled(order.accepted(ts_event=2, order_id="v"), "4", "4.50")
    assert (part.status, part.cum_quantity, part.leaves_quantity) == ("partially_filled", 4, 6)
    assert str(part.avg_price) == "4.50", "the first price keeps its digits"
    done = filled(part, "6", "5")
    assert (done.status, done.leaves_quantity, done.avg_price) == ("filled", 0, Decimal("4.8"))
    assert done.is_terminal
    assert decode(encode(done)) == done


def test_the_venue_s_id_may_come_with_the_first_fill(order: OrderEvent) -> None:
    fill = FillEvent.of(
        order, exec_id="e", last_quantity=Decimal(1), last_price=Decimal(5), ts_event=2
    ).model_copy(update={"order_id": "v-9"})
    assert order.filled_by(fill).order_id == "v-9"


def test_a_partial_fill_leaves_a_request_pending(order: OrderEvent) -> None:
    live = order.accepted(ts_event=2)
    for pending in (live.cancel_requested(ts_event=3), live.replace_requested(ts_event=3)):
        part = filled(pending, "4", "5")
        assert (part.status, part.cum_quantity) == (pending.status, 4)
        assert filled(part, "6", "5").status == "filled"
        assert part.request_refused(ts_event=5, reason="too late").status == "partially_filled"
        assert pending.request_refused(ts_event=5, reason="unknown").status == "new"


def test_replaced(order: OrderEvent) -> None:
    live = order.accepted(ts_event=2)
    more = live.replace_requested(ts_event=3).replaced(
        ts_event=4, quantity=Decimal(20), limit_price=Decimal("5.5")
    )
    assert (more.status, more.quantity, more.leaves_quantity) == ("new", 20, 20)
    assert more.limit_price == Decimal("5.5")
    part = filled(live, "4", "5").replace_requested(ts_event=5)
    same = part.replaced(ts_event=6)
    assert (same.status, same.quantity, same.leaves_quantity) == ("partially_filled", 10, 6)
    less = part.replaced(ts_event=6, quantity=Decimal(4))
    assert (less.status, less.leaves_quantity) == ("filled", 0)
    with pytest.raises(InvalidEvent, match="'quantity' cannot become 3, 4 are filled already"):
        part.replaced(ts_event=6, quantity=Decimal(3))
    with pytest.raises(InvalidEvent, match=r"field 'quantity': give .*, got 8.5 \(float\)"):
        part.replaced(ts_event=6, quantity=8.5)  # type: ignore[arg-type]  # that is the test
    with pytest.raises(InvalidEvent, match="'stop_price': a limit order has none"):
        part.replaced(ts_event=6, stop_price=Decimal(3))


def test_an_answer_needs_a_request(order: OrderEvent) -> None:
    live = order.accepted(ts_event=2)
    with pytest.raises(IllegalTransition, match=r"'c-1' of V:S is new: .*pending_replace gets"):
        live.replaced(ts_event=3, quantity=Decimal(5))
    with pytest.raises(IllegalTransition, match=r"is new: .*pending_cancel or pending_replace"):
        live.request_refused(ts_event=3, reason="?")
    with pytest.raises(IllegalTransition, match="is pending_cancel: only"):
        live.cancel_requested(ts_event=3).replaced(ts_event=4)


def test_an_illegal_step_says_what_is_allowed(order: OrderEvent) -> None:
    with pytest.raises(IllegalTransition) as caught:
        order.replace_requested(ts_event=2)
    message = str(caught.value)
    assert "'c-1' of V:S cannot go from pending_new to pending_replace; allowed: new," in message
    with pytest.raises(IllegalTransition, match="nothing: canceled is final"):
        order.canceled(ts_event=2).accepted(ts_event=3)


def test_fills_come_by_fills_only(order: OrderEvent) -> None:
    with pytest.raises(InvalidEvent, match="field 'cum_quantity': in a filled order everything"):
        order.to(OrderStatus.FILLED, ts_event=2)


@pytest.mark.parametrize(
    ("field", "value"), [("key", "V:T"), ("client_order_id", "c-2"), ("side", "sell")]
)
def test_a_fill_of_another_order(
    order: OrderEvent, fill: FillEvent, field: str, value: str
) -> None:
    foreign = FillEvent(**dict(fill) | {field: value})
    with pytest.raises(InvalidEvent, match=f"'e-1' belongs to another order: field '{field}'"):
        order.filled_by(foreign)


def test_a_fill_twice_or_too_early(order: OrderEvent, fill: FillEvent) -> None:
    part = order.filled_by(fill)
    with pytest.raises(InvalidEvent, match=r"'cum_quantity' is 4, .*4 filled already.*before"):
        part.filled_by(fill)
    second = filled(part, "1", "5")
    third = FillEvent.of(
        second, exec_id="e-3", last_quantity=Decimal(1), last_price=Decimal(5), ts_event=9
    )
    with pytest.raises(InvalidEvent, match=r"'cum_quantity' is 6, .*expects 5: .*missing"):
        part.filled_by(third)


def test_overfill(order: OrderEvent, fill: FillEvent) -> None:
    part = order.filled_by(fill)
    over = FillEvent(
        **dict(fill)
        | {"quantity": 20, "last_quantity": 7, "cum_quantity": 11, "leaves_quantity": 9}
    )
    with pytest.raises(Overfill, match=r"'e-1' of order 'c-1': last_quantity 7 .*6 of 10"):
        part.filled_by(over)


def test_no_fill_after_the_end(order: OrderEvent, fill: FillEvent) -> None:
    with pytest.raises(IllegalTransition, match="from canceled to partially_filled"):
        order.canceled(ts_event=2).filled_by(fill)


@pytest.mark.parametrize(
    ("first", "second", "mean"),
    [
        (("1", "100"), ("2", "101"), "100.6666666666666666666666667"),
        (("0.1", "100"), ("0.1", "300"), "200"),
        (("1", "0." + "0" * 43 + "1"), ("2", "0." + "0" * 43 + "2"), "0." + "0" * 40),
        (("1", "9" * 40), ("1", "9" * 40), "1" + "0" * 40),
    ],
    ids=["thirds", "a positive exponent", "tiny prices", "huge prices"],
)
def test_mean_prices_stay_plain_and_short(
    first: tuple[str, str], second: tuple[str, str], mean: str
) -> None:
    order = filled(filled(OrderEvent(**FIELDS), *first), *second)
    assert order.avg_price is not None
    assert format(order.avg_price, "f") == mean
    assert decode(encode(order)) == order
