"""The codec: bytes in, event out, and one clear error for everything that is no event."""

from __future__ import annotations

import json
from typing import Any, Self

import pytest
from pydantic import model_validator

from streamatiq.errors import (
    EventDecodeError,
    EventDefinitionError,
    InvalidEvent,
    SchemaVersionError,
    UnknownEventType,
)
from streamatiq.events import (
    Event,
    InstrumentEvent,
    MarketDataEvent,
    OrderEvent,
    Quote,
    decode,
    decode_as,
    encode,
)


def changed(event: Event, **fields: Any) -> bytes:
    return json.dumps({**json.loads(encode(event)), **fields}).encode()


def without(event: Event, *fields: str) -> bytes:
    wire = json.loads(encode(event))
    for field in fields:
        del wire[field]
    return json.dumps(wire).encode()


def test_the_wire_of_a_quote(quote: MarketDataEvent) -> None:
    assert encode(quote).decode() == (
        f'{{"type":"market_data","v":1,"id":"{quote.id}","ts_event":1723161253937000000,'
        '"source":"feed","key":"BINANCE-UM:BTCUSDT","ts_recv":1723161252667000000,'
        '"data":{"kind":"quote","bid_px":"61234.10","bid_sz":"1.234","ask_px":"61234.20",'
        '"ask_sz":"0.100","update_id":4711}}'
    )
    assert len(encode(quote.stamped(quote.ts_event))) < 345


def test_known_and_found_classes_agree(quote: MarketDataEvent, order: OrderEvent) -> None:
    for event in (quote, order):
        assert decode(encode(event)) == decode_as(type(event), encode(event)) == event


def test_a_foreign_writer_may_order_the_keys_otherwise(quote: MarketDataEvent) -> None:
    wire = json.loads(encode(quote))
    foreign = json.dumps(dict(reversed(wire.items())), indent=1).encode()
    assert decode(foreign) == quote
    escaped = encode(quote).replace(b'"market_data"', b'"market\\u005fdata"')
    assert decode(escaped) == quote


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "no JSON.*got b''"),
        (b"\xff\xfe", r"no JSON.*got b'\\xff\\xfe'"),
        (b"{}", "'type' is no type name: got b'{}'"),
        (b"[]", "'type' is no type name"),
        (b"null", "'type' is no type name"),
        (b'{"type":5}', "'type' is no type name"),
        (b'{"type":"market_data', "no JSON"),
        (b'{"type":"market_data"', "Not a market_data event: invalid JSON"),
        (b'{"type":"market_data","v":1}', "field 'id' is missing"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_bytes_that_are_no_event(data: bytes, complaint: str) -> None:
    with pytest.raises(EventDecodeError, match=complaint) as caught:
        decode(data)
    assert len(str(caught.value)) < 400
    assert caught.value.__cause__ is None


def test_an_unknown_type() -> None:
    with pytest.raises(UnknownEventType, match="'nope'"):
        decode(b'{"type":"nope","v":1}')


def test_another_type_than_asked_for(quote: MarketDataEvent) -> None:
    with pytest.raises(
        EventDecodeError, match=r"field 'type'.*'order', got 'market_data'"
    ) as caught:
        decode_as(OrderEvent, encode(quote))
    assert type(caught.value) is EventDecodeError


@pytest.mark.parametrize("version", [0, 2, 1.5, "1", None])
def test_another_schema_version(quote: MarketDataEvent, version: object) -> None:
    for read in (decode, lambda data: decode_as(MarketDataEvent, data)):
        with pytest.raises(SchemaVersionError) as caught:
            read(changed(quote, v=version, new_field_of_that_version=1))
        assert f"v={version!r}" in str(caught.value)
        assert "market_data" in str(caught.value)
        assert "reads version 1" in str(caught.value)


def test_the_version_is_the_class_s_own() -> None:
    class Third(Event, type="codec.third", version=3):
        pass

    third = Third(ts_event=1)
    assert json.loads(encode(third))["v"] == 3
    assert decode(encode(third)) == third
    with pytest.raises(SchemaVersionError, match=r"v=2 .*Third reads version 3"):
        decode(changed(third, v=2))


def test_what_only_the_constructor_fills_in(quote: MarketDataEvent, order: OrderEvent) -> None:
    for field in ("type", "id", "ts_event", "key", "data"):
        with pytest.raises(EventDecodeError, match=f"field '{field}' is missing"):
            decode_as(MarketDataEvent, without(quote, field))
    with pytest.raises(SchemaVersionError):
        decode(without(quote, "v"))
    for field in ("status", "time_in_force", "cum_quantity", "leaves_quantity"):
        with pytest.raises(EventDecodeError, match=f"field '{field}' is missing"):
            decode(without(order, field))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"surprise": [1]}, r"field 'surprise' is unknown \(value \[1\] \(list\)\)"),
        ({"id": "123"}, "field 'id'.*got '123'"),
        ({"ts_event": 1.5}, r"field 'ts_event'.*got 1.5 \(float\)"),
        ({"ts_recv": float("nan")}, r"field 'ts_recv'.*got nan \(float\)"),
        ({"key": "nowhere"}, "field 'key'.*got 'nowhere'"),
        ({"priority": "urgent"}, "field 'priority'.*got 'urgent'"),
        ({"data": None}, "field 'data'.*got None"),
        ({"data": {}}, "field 'data'.*got {}"),
        ({"data": {"kind": "book"}}, "field 'data'.*'book'"),
        (
            {"data": {"kind": "trade", "price": "1", "size": "0"}},
            "field 'data.trade.size'.*got '0'",
        ),
    ],
)
def test_refused_fields(quote: MarketDataEvent, fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(EventDecodeError, match=f"^Not a market_data event: {complaint}"):
        decode(changed(quote, **fields))


def test_an_abstract_class_decodes_nothing(quote: MarketDataEvent) -> None:
    bare = b'{"type":"","v":1,"id":"' + str(quote.id).encode() + b'","ts_event":1}'
    for cls in (Event, InstrumentEvent):
        for data in (bare, encode(quote), b""):
            with pytest.raises(EventDefinitionError, match=rf"{cls.__name__} is abstract.*decode"):
                decode_as(cls, data)


def test_a_validator_that_fails_makes_no_event() -> None:
    class Fragile(Event, type="codec.fragile"):
        parts: dict[str, int]

        @model_validator(mode="after")
        def _check(self) -> Self:
            if not self.parts["a"]:
                raise ValueError("field 'parts': a is 0")
            return self

    fragile = Fragile(ts_event=1, parts={"a": 1})
    with pytest.raises(
        EventDecodeError, match=r"Not a codec\.fragile event: field 'parts': a is 0"
    ):
        decode(changed(fragile, parts={"a": 0}))
    with pytest.raises(
        EventDecodeError, match=r"validator of Fragile failed with KeyError"
    ) as caught:
        decode(changed(fragile, parts={}))
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_event_put_together_past_its_checks_is_not_written(quote: MarketDataEvent) -> None:
    for update in ({"ts_event": "soon"}, {"data": "x"}, {"key": "\ud800"}):
        with pytest.raises(InvalidEvent, match="MarketDataEvent cannot be encoded"):
            encode(quote.model_copy(update=update))
    bad = Quote.model_construct(kind="quote", bid_px=1.5)
    with pytest.raises(InvalidEvent, match="MarketDataEvent cannot be encoded"):
        encode(quote.model_copy(update={"data": bad}))
