"""Every event of every type comes back from its bytes equal, and the bytes are the same again.

So it does from a CloudEvent, in each of its shapes.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamatiq.events import (
    Bar,
    BookAction,
    BookDelta,
    BookDeltas,
    Direction,
    Event,
    FillEvent,
    Lane,
    Liquidity,
    MarketDataEvent,
    OrderEvent,
    OrderStatus,
    OrderType,
    Quote,
    Side,
    SignalEvent,
    TimeInForce,
    Trade,
    decode,
    decode_as,
    encode,
    from_cloudevent,
    from_cloudevent_http,
    to_cloudevent,
    to_cloudevent_http,
)

NORMAL = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

#: Text that UTF-8 can carry: no lone surrogates.
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=32)
times = st.integers(0, 2**63 - 1)
symbols = st.from_regex(r"[^:\s]{1,20}:[^\s\udc80-\udfff]{1,20}", fullmatch=True).filter(
    lambda key: not any(0xD800 <= ord(char) <= 0xDFFF for char in key)
)


def decimals(low: int | None = None) -> st.SearchStrategy[Decimal]:
    """Finite decimals with 0 to 12 places, from one unit of the last place above `low`."""
    return st.builds(
        lambda units, places: Decimal(units).scaleb(-places),
        st.integers(low if low is not None else -(10**20), 10**20),
        st.integers(0, 12),
    )


prices, sizes, quantities = decimals(), decimals(0), decimals(1)
maybe = {
    "ts_published": st.none() | times,
    "source": text | st.sampled_from(["https://example.com/a%20b?c#d", "urn:x:y", "//a:b", "a:b"]),
    "correlation_id": st.none() | st.uuids(),
    "causation_id": st.none() | st.uuids(),
    "priority": st.sampled_from(Lane),
    "valid_for_ms": st.none() | st.integers(1, 10**9),
    "trace": st.none()
    | st.dictionaries(text | st.sampled_from(["traceparent", "tracestate"]), text, max_size=2),
}


def envelope(**payload: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"ts_event": times, "key": symbols, **payload}, optional=maybe)


quotes = st.builds(
    Quote,
    bid_px=prices,
    bid_sz=sizes,
    ask_px=prices,
    ask_sz=sizes,
    update_id=st.none() | st.integers(),
)
trades = st.builds(
    Trade,
    price=prices,
    size=quantities,
    trade_id=st.none() | text,
    aggressor=st.none() | st.sampled_from(Side),
    trade_kind=st.none() | text,
)


@st.composite
def bars(draw: st.DrawFn) -> Bar:
    low, first, last, high = sorted(draw(st.tuples(prices, prices, prices, prices)))
    return Bar(
        ts_start=draw(times),
        interval_ns=draw(st.integers(1, 10**18)),
        open=first,
        high=high,
        low=low,
        close=last,
        volume=draw(sizes),
        vwap=draw(st.none() | prices),
        trade_count=draw(st.none() | st.integers(0)),
    )


@st.composite
def book_delta(draw: st.DrawFn) -> BookDelta:
    fields: dict[str, Any] = {
        "side": draw(st.sampled_from(Side)),
        "price": draw(prices),
        "size": draw(sizes),
    }
    if fields["size"] and draw(st.booleans()):
        fields["action"] = BookAction.ADD
    return BookDelta(order_id=draw(st.none() | names), **fields)


@st.composite
def book_deltas(draw: st.DrawFn) -> BookDeltas:
    last = draw(st.none() | st.integers())
    first = None if last is None else draw(st.none() | st.integers(max_value=last))
    return BookDeltas(
        deltas=draw(st.lists(book_delta(), max_size=3)),
        snapshot=draw(st.booleans()),
        first_update_id=first,
        last_update_id=last,
        prev_update_id=draw(st.none() | st.integers()),
    )


@st.composite
def orders(draw: st.DrawFn) -> OrderEvent:
    """Any consistent snapshot: the state decides how much is filled and open."""
    kind = draw(st.sampled_from(OrderType))
    force = draw(st.sampled_from(TimeInForce))
    status = draw(st.sampled_from(OrderStatus))
    lots = draw(st.integers(2, 1000))
    unit = draw(quantities)
    if status in (OrderStatus.PENDING_NEW, OrderStatus.NEW, OrderStatus.REJECTED):
        done = 0
    elif status is OrderStatus.FILLED:
        done = lots
    else:
        done = draw(st.integers(int(status is OrderStatus.PARTIALLY_FILLED), lots - 1))
    ended = status in ("filled", "canceled", "rejected", "expired")
    fields = draw(
        envelope(
            client_order_id=names,
            order_id=st.none() | names,
            side=st.sampled_from(Side),
            reason=st.none() | text,
            avg_price=prices if done else st.none(),
            limit_price=prices if "limit" in kind else st.none(),
            stop_price=prices if "stop" in kind else st.none(),
            expire_at=times if force == "gtd" else st.none(),
        )
    )
    return OrderEvent(
        order_type=kind,
        time_in_force=force,
        status=status,
        quantity=unit * lots,
        cum_quantity=unit * done,
        leaves_quantity=0 if ended else unit * (lots - done),
        **fields,
    )


@st.composite
def fills(draw: st.DrawFn) -> FillEvent:
    """Any fill whose totals stay within what was ordered."""
    unit = draw(quantities)
    last, before, leaves, cut = (draw(st.integers(low, 1000)) for low in (1, 0, 0, 0))
    paid = draw(st.booleans())
    fields = draw(
        envelope(
            exec_id=names,
            client_order_id=names,
            order_id=st.none() | names,
            side=st.sampled_from(Side),
            last_price=prices,
            fee=prices if paid else st.none(),
            fee_currency=names if paid else st.none(),
            liquidity=st.sampled_from(Liquidity),
        )
    )
    return FillEvent(
        quantity=unit * (last + before + leaves + cut),
        last_quantity=unit * last,
        cum_quantity=unit * (last + before),
        leaves_quantity=unit * leaves,
        **fields,
    )


market_data = envelope(
    ts_recv=st.none() | times, data=quotes | trades | bars() | book_deltas()
).map(lambda fields: MarketDataEvent(**fields))
signals = envelope(
    strategy=names,
    direction=st.sampled_from(Direction),
    strength=st.none() | st.integers(0, 100).map(lambda percent: Decimal(percent) / 100),
    reference_price=st.none() | prices,
    quantity=st.none() | quantities,
    reason=st.none() | text,
    features=st.none() | st.dictionaries(text, text, max_size=3),
).map(lambda fields: SignalEvent(**fields))


def check(event: Event) -> None:
    data = encode(event)
    back = decode(data)
    assert type(back) is type(event)
    assert back == event
    assert decode_as(type(event), data) == event
    assert encode(back) == data, "digits and key order survive too"


@NORMAL
@given(market_data)
def test_market_data(event: MarketDataEvent) -> None:
    check(event)


@NORMAL
@given(signals)
def test_signals(event: SignalEvent) -> None:
    check(event)


@NORMAL
@given(orders())
def test_orders(event: OrderEvent) -> None:
    check(event)


@NORMAL
@given(fills())
def test_fills(event: FillEvent) -> None:
    check(event)


@settings(NORMAL)
@given(market_data | signals | orders() | fills(), st.sampled_from(["", "com.example"]))
def test_by_cloudevent(event: Event, prefix: str) -> None:
    sent = json.dumps(to_cloudevent(event, type_prefix=prefix))
    for back in (
        from_cloudevent(json.loads(sent), type_prefix=prefix),
        from_cloudevent_http(*to_cloudevent_http(event, type_prefix=prefix), type_prefix=prefix),
    ):
        assert back == event
        assert encode(back) == encode(event)
