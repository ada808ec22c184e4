"""The life of an order: its table, and a random walk against a plain model of quantities."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamatiq.errors import IllegalTransition, InvalidEvent, Overfill
from streamatiq.events import FillEvent, OrderEvent, OrderStatus, decode, encode
from streamatiq.events.order_life import NEXT, TERMINAL, check_transition

LOT = Decimal("0.001")


def test_four_states_are_final() -> None:
    assert {"filled", "canceled", "rejected", "expired"} == TERMINAL
    assert TERMINAL | NEXT.keys() == set(OrderStatus)


def test_every_state_can_be_reached_and_left() -> None:
    reached, frontier = {OrderStatus.PENDING_NEW}, [OrderStatus.PENDING_NEW]
    while frontier:
        new = set(NEXT.get(frontier.pop(), ())) - reached
        reached |= new
        frontier += new
    assert reached == set(OrderStatus)
    for status, following in NEXT.items():
        assert len(set(following)) == len(following)
        assert OrderStatus.FILLED in following, f"a fill may arrive while {status}"
        assert OrderStatus.CANCELED in following


#: Steps that FIX 4.4's matrices show, or show to be impossible.
LEGAL = [
    ("pending_new", "new"),
    ("pending_new", "rejected"),
    ("pending_new", "filled"),
    ("new", "partially_filled"),
    ("new", "done_for_day"),
    ("partially_filled", "partially_filled"),
    ("partially_filled", "expired"),
    ("pending_cancel", "canceled"),
    ("pending_cancel", "partially_filled"),
    ("pending_replace", "new"),
    ("pending_replace", "pending_cancel"),
    ("done_for_day", "new"),
    ("stopped", "filled"),
    ("suspended", "new"),
]
ILLEGAL = [
    ("pending_new", "pending_new"),
    ("pending_new", "pending_replace"),
    ("pending_new", "done_for_day"),
    ("new", "new"),
    ("new", "pending_new"),
    ("partially_filled", "new"),
    ("partially_filled", "rejected"),
    ("pending_cancel", "pending_replace"),
    ("pending_replace", "rejected"),
    ("stopped", "new"),
    ("filled", "partially_filled"),
    ("canceled", "filled"),
    ("rejected", "new"),
    ("expired", "pending_cancel"),
]


@pytest.mark.parametrize(("present", "asked"), LEGAL)
def test_legal_steps(present: str, asked: str) -> None:
    check_transition("x", OrderStatus(present), OrderStatus(asked))


@pytest.mark.parametrize(("present", "asked"), ILLEGAL)
def test_illegal_steps(present: str, asked: str) -> None:
    with pytest.raises(IllegalTransition, match=f"Order x cannot go from {present} to {asked}"):
        check_transition("x", OrderStatus(present), OrderStatus(asked))


class OrderLife(RuleBasedStateMachine):
    """Walks an order with whatever comes; the model is three ints, in lots, and exact money."""

    def __init__(self) -> None:
        super().__init__()
        self.ordered, self.filled, self.paid = 20, 0, Fraction(0)
        self.order = OrderEvent(
            ts_event=1,
            key="V:S",
            client_order_id="c",
            side="sell",
            order_type="stop_limit",
            quantity=self.ordered * LOT,
            limit_price="1",
            stop_price="2",
        )
        self.executions = 0

    @property
    def ended(self) -> bool:
        return self.order.status in ("filled", "canceled", "rejected", "expired")

    def advance(self, order: OrderEvent) -> None:
        assert order.causation_id == self.order.id
        assert order.id > self.order.id
        self.order = order

    @rule(status=st.sampled_from(OrderStatus))
    def move(self, status: OrderStatus) -> None:
        """Any state may be asked for: it is reached when the table and the fills allow it."""
        legal = status in NEXT.get(self.order.status, ())
        if status in ("new", "pending_new", "rejected"):
            fits = self.filled == 0
        elif status == "partially_filled":
            fits = 0 < self.filled < self.ordered
        else:
            fits = (status == "filled") == (self.filled == self.ordered)
        try:
            moved = self.order.to(status, ts_event=2)
        except IllegalTransition:
            assert not legal
        except InvalidEvent:
            assert legal
            assert not fits
        else:
            assert legal
            assert fits
            self.advance(moved)

    @rule(lots=st.integers(1, 25), cents=st.integers(-500, 500))
    def trade(self, lots: int, cents: int) -> None:
        """A fill of any size: taken when it fits what is open, and the order still works."""
        self.executions += 1
        price = Decimal(cents).scaleb(-2)
        fill = FillEvent(
            ts_event=3,
            key="V:S",
            client_order_id="c",
            side="sell",
            exec_id=str(self.executions),
            quantity=1000 * LOT,
            last_quantity=lots * LOT,
            last_price=price,
            cum_quantity=(self.filled + lots) * LOT,
            leaves_quantity=0,
        )
        try:
            after = self.order.filled_by(fill)
        except Overfill:
            assert self.filled + lots > self.ordered
        except IllegalTransition:
            assert self.ended
        else:
            assert not self.ended
            self.filled += lots
            self.paid += lots * Fraction(price)
            self.advance(after)

    @precondition(lambda self: self.executions > 0 and self.filled > 0)
    @rule()
    def repeat_the_last_fill(self) -> None:
        fill = FillEvent(
            ts_event=3,
            key="V:S",
            client_order_id="c",
            side="sell",
            exec_id=str(self.executions),
            quantity=1000 * LOT,
            last_quantity=LOT,
            last_price=1,
            cum_quantity=self.filled * LOT,
            leaves_quantity=0,
        )
        with pytest.raises(InvalidEvent, match="applied before"):
            self.order.filled_by(fill)

    @rule(lots=st.integers(1, 40))
    def replace(self, lots: int) -> None:
        try:
            after = self.order.replaced(ts_event=4, quantity=lots * LOT)
        except IllegalTransition:
            assert self.order.status != "pending_replace"
        except InvalidEvent:
            assert self.order.status == "pending_replace"
            assert lots < self.filled
        else:
            assert self.order.status == "pending_replace"
            self.ordered = lots
            self.advance(after)

    @rule()
    def refuse(self) -> None:
        pending = self.order.status in ("pending_cancel", "pending_replace")
        try:
            after = self.order.request_refused(ts_event=5, reason="no")
        except IllegalTransition:
            assert not pending
        else:
            assert pending
            assert after.status == ("partially_filled" if self.filled else "new")
            self.advance(after)

    @invariant()
    def quantities_agree(self) -> None:
        order = self.order
        assert order.quantity == self.ordered * LOT
        assert order.cum_quantity == self.filled * LOT
        assert order.leaves_quantity == (0 if self.ended else (self.ordered - self.filled) * LOT)
        assert order.is_terminal == self.ended
        if self.filled:
            assert order.avg_price is not None
            mean = self.paid / self.filled
            assert abs(Fraction(order.avg_price) - mean) <= Fraction(1, 10**20)
        else:
            assert order.avg_price is None

    @invariant()
    def survives_the_wire(self) -> None:
        assert decode(encode(self.order)) == self.order


TestOrderLife = OrderLife.TestCase
TestOrderLife.settings = settings(
    derandomize=True, deadline=None, database=None, stateful_step_count=30
)
