"""Order books: one message, its changes, and what is missing before it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamatiq.errors import EventDecodeError, InvalidEvent
from streamatiq.events import (
    BookAction,
    BookDelta,
    BookDeltas,
    MarketDataEvent,
    Side,
    decode,
    encode,
    missed_updates,
)

LEVEL = {"side": "buy", "price": "61737.63000000", "size": "0.10"}


def event_of(data: BookDeltas) -> MarketDataEvent:
    return MarketDataEvent(ts_event=1, key="V:S", data=data)


def test_a_message_on_the_wire() -> None:
    update = BookDeltas(
        deltas=[LEVEL, {"side": "sell", "price": 5, "size": 0, "order_id": "o-1"}],
        first_update_id=7,
        last_update_id=9,
        prev_update_id=6,
    )
    event = event_of(update)
    assert encode(event).endswith(
        b'"data":{"kind":"book_deltas","deltas":['
        b'{"side":"buy","price":"61737.63000000","size":"0.10","action":"update"},'
        b'{"side":"sell","price":"5","size":"0","action":"delete","order_id":"o-1"}],'
        b'"snapshot":false,"first_update_id":7,"last_update_id":9,"prev_update_id":6}}'
    )
    assert decode(encode(event)) == event


@pytest.mark.parametrize(
    ("fields", "action"),
    [
        ({}, "update"),
        ({"size": "0.000"}, "delete"),
        ({"action": "add"}, "add"),
        ({"action": BookAction.UPDATE, "order_id": "1"}, "update"),
        ({"size": 0, "action": "delete"}, "delete"),
    ],
)
def test_the_action_follows_from_the_size_where_none_is_given(
    fields: dict[str, Any], action: str
) -> None:
    delta = BookDelta(**LEVEL | fields)
    assert delta.action is BookAction(action)
    assert delta.side is Side.BUY
    wire = json.loads(encode(event_of(BookDeltas(deltas=[delta]))))
    if "action" not in fields:
        del wire["data"]["deltas"][0]["action"]
    assert decode(json.dumps(wire).encode()).data.deltas == (delta,)  # type: ignore[attr-defined]  # it is market data


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"action": "delete"}, "field 'size': 0.10 does not fit action 'delete': a delete leaves"),
        ({"action": "add", "size": 0}, "field 'size': 0 does not fit action 'add'"),
        ({"action": "update", "size": 0}, "field 'size': 0 does not fit action 'update'"),
        ({"action": "clear"}, "field 'action'.*'add', 'update' or 'delete', got 'clear'"),
        ({"size": "-1"}, "field 'size'.*0 or more.*got '-1'"),
        ({"size": 0.1}, r"field 'size'.*got 0.1 \(float\)"),
        ({"side": "bid"}, "field 'side'.*'buy' or 'sell', got 'bid'"),
        ({"order_id": ""}, "field 'order_id'"),
    ],
)
def test_changes_that_are_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidEvent, match=complaint):
        BookDelta(**LEVEL | fields)


def test_messages_that_are_refused() -> None:
    with pytest.raises(InvalidEvent, match=r"field 'last_update_id': .* update 7 .*got 6 \(int\)"):
        BookDeltas(deltas=[], first_update_id=7, last_update_id=6)
    with pytest.raises(InvalidEvent, match=r"field 'last_update_id'.*got None"):
        BookDeltas(deltas=[], first_update_id=7)
    with pytest.raises(InvalidEvent, match=r"field 'deltas\.0\.size'.*got '-1'"):
        BookDeltas(deltas=[{**LEVEL, "size": "-1"}])
    stored = encode(event_of(BookDeltas(deltas=[LEVEL], first_update_id=7, last_update_id=7)))
    with pytest.raises(EventDecodeError, match=r"field 'data\.book_deltas'.*update 7.*got 5"):
        decode(stored.replace(b'"last_update_id":7', b'"last_update_id":5'))


def test_a_snapshot_may_say_that_the_book_is_empty() -> None:
    event = event_of(BookDeltas(deltas=(), snapshot=True, last_update_id=5))
    assert decode(encode(event)) == event


def update(first: int | None, last: int | None, prev: int | None = None, **more: Any) -> BookDeltas:
    return BookDeltas(
        deltas=(), first_update_id=first, last_update_id=last, prev_update_id=prev, **more
    )


@pytest.mark.parametrize(
    ("last", "message", "missing"),
    [
        (None, update(5, 9), []),
        (4, update(5, 9), []),
        (3, update(5, 9), [4]),
        (1, update(5, 9), [2, 3, 4]),
        (7, update(5, 9), []),  # the first one after a snapshot overlaps it
        (9, update(5, 9), []),  # applied before
        (20, update(5, 9), []),
        (4, update(6, 9, 4), []),  # numbers with holes: the venue names the one before
        (3, update(6, 9, 4), [4]),
        (8, update(6, 9, 4), []),
        (4, update(None, 5), []),
        (4, update(None, 7), [5, 6]),
        (4, update(None, 4), []),
        (4, update(None, None), []),
        (1, update(5, 9, snapshot=True), []),
    ],
)
def test_what_is_missing_before_a_message(
    last: int | None, message: BookDeltas, missing: list[int]
) -> None:
    assert list(missed_updates(last, message)) == missing


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=30), st.data(), st.booleans())
def test_a_lost_message_is_the_only_gap_that_is_found(
    lengths: list[int], data: st.DataObject, named: bool
) -> None:
    messages, end = [], 100
    for length in lengths:
        messages.append(update(end + 1, end + length, end if named else None))
        end += length
    lost = data.draw(st.integers(1, len(messages)))
    kept = messages[:lost] + messages[lost + 1 :]
    last: int | None = None
    found = []
    for message in kept:
        found += missed_updates(last, message)
        last = message.last_update_id
    if lost >= len(messages) - 1:  # none, or the newest one: nothing tells yet
        assert found == []
    else:
        gone = messages[lost]
        assert gone.first_update_id is not None
        assert gone.last_update_id is not None
        assert found == list(range(gone.first_update_id, gone.last_update_id + 1))
