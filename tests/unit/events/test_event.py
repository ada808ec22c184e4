"""The envelope and the class statement: what is declared, what is refused, what a copy shares."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from pydantic import ConfigDict, Field, ValidationError, computed_field

from streamatiq.errors import EventDefinitionError, InvalidEvent
from streamatiq.events import (
    Event,
    Lane,
    Laned,
    MarketDataEvent,
    OrderEvent,
    Partitioned,
    decode,
    encode,
    new_id,
)


class Ping(Event, type="event.ping"):
    n: int = 0
    note: str | None = None


def test_defaults_of_a_class_statement() -> None:
    assert (Ping.event_type, Ping.schema_version, Ping.log) == ("event.ping", 1, Partitioned(1))
    ping = Ping(ts_event=1)
    assert (ping.type, ping.v) == ("event.ping", 1)
    assert ping.id.version == 7
    assert ping.priority is Lane.NORMAL
    assert ping.key == ping.source == ""


def test_abstract_bases_hand_down_their_fields_and_log() -> None:
    class Base(Event, log=Laned()):
        level: int

    class Alarm(Base, type="alarm", version=2):
        pass

    class Calm(Alarm, type="calm", log=Partitioned(3)):
        pass

    assert Base.event_type == ""
    assert (Alarm.log, Alarm.schema_version) == (Laned(), 2)
    assert (Calm.log, Calm.schema_version, Calm(ts_event=1, level=2).type) == (
        Partitioned(3),
        1,
        "calm",
    )
    with pytest.raises(EventDefinitionError, match="Base is an abstract event"):
        Base(ts_event=1, level=2)


def test_event_itself_has_no_instances() -> None:
    with pytest.raises(EventDefinitionError, match=r"Event is an abstract event.*type="):
        Event(ts_event=1)


def test_a_subclass_without_a_type_is_abstract_even_of_a_concrete_class() -> None:
    class Special(MarketDataEvent):
        pass

    with pytest.raises(EventDefinitionError, match="Special is an abstract event"):
        Special(ts_event=1)


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ({"type": ""}, "event type '' does not match"),
        ({"type": "Tick"}, "event type 'Tick' does not match"),
        ({"type": "1tick"}, "event type '1tick'"),
        ({"type": "tick:x"}, "event type 'tick:x'"),
        ({"type": "tick\n"}, r"event type 'tick\\n'"),
        ({"type": "t" * 65}, "event type .*at most 64 characters"),
        ({"type": 7}, "event type 7"),
        ({"type": "tick", "version": 0}, "version 0 is not an int of 1"),
        ({"type": "tick", "version": True}, "version True"),
        ({"type": "tick", "version": "1"}, "version '1'"),
        ({"type": "tick", "log": 3}, "log 3 is neither Partitioned"),
        ({"type": "tick", "log": Laned}, "log <class .*Laned'> is neither"),
    ],
)
def test_a_wrong_class_statement(statement: dict[str, Any], complaint: str) -> None:
    with pytest.raises(EventDefinitionError, match=f"Tick: {complaint}"):

        class Tick(Event, **statement):
            pass


def test_a_type_name_of_64_characters() -> None:
    class Tick(Event, type="t" + "_.-9" * 15 + "xyz"):
        pass

    assert len(Tick.event_type) == 64


def test_settings_that_would_break_the_promises() -> None:
    with pytest.raises(EventDefinitionError, match=r"Loose: .*extra='forbid', not 'allow'"):

        class Loose(Event, type="loose"):
            model_config = ConfigDict(extra="allow")

    with pytest.raises(EventDefinitionError, match=r"Soft: .*frozen=True, not False"):

        class Soft(Event, type="soft", frozen=False):
            pass


def test_fields_that_would_not_round_trip() -> None:
    with pytest.raises(EventDefinitionError, match=r"Named\.x: .*remove the alias"):

        class Named(Event, type="named"):
            x: int = Field(alias="y")

    with pytest.raises(EventDefinitionError, match=r"Hidden\.x: .*remove exclude"):

        class Hidden(Event, type="hidden"):
            x: int = Field(exclude=True)

    with pytest.raises(EventDefinitionError, match=r"Sum\.x: a computed field"):

        class Sum(Event, type="sum"):
            @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
            @property
            def x(self) -> int:
                return 1


def test_a_refused_class_is_not_registered() -> None:
    with pytest.raises(EventDefinitionError):

        class Named(Event, type="named"):
            x: int = Field(alias="y")

    class Renamed(Event, type="named"):
        x: int = 0

    assert Renamed(ts_event=1).type == "named"


def test_frozen(quote: MarketDataEvent) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        quote.key = "V:S"
    with pytest.raises(ValidationError, match="frozen"):
        quote.data.kind = "quote"


def test_hash_is_of_the_id_even_with_a_trace() -> None:
    one = Ping(ts_event=1, trace={"traceparent": "00-x"})
    assert hash(one) == hash(decode(encode(one))) == hash(one.id)
    assert len({one, decode(encode(one))}) == 1


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"nope": 1}, r"field 'nope' is unknown \(value 1 \(int\)\)"),
        ({"id": "x"}, "field 'id'.*got 'x'"),
        ({"type": "other"}, "field 'type'.*'event.ping', got 'other'"),
        ({"v": 2}, "field 'v'.*got 2"),
        ({"key": "k" * 257}, "field 'key'.*256"),
        ({"key": b"k"}, "field 'key'.*got b'k'"),
        ({"source": 1}, "field 'source'.*got 1"),
        ({"priority": "urgent"}, "field 'priority'.*'high', 'normal' or 'low', got 'urgent'"),
        ({"valid_for_ms": 0}, "field 'valid_for_ms'.*greater than or equal to 1, got 0"),
        ({"valid_for_ms": 1.5}, r"field 'valid_for_ms'.*got 1.5 \(float\)"),
        ({"ts_published": -1}, "field 'ts_published'.*got -1"),
        ({"correlation_id": 5}, "field 'correlation_id'.*got 5"),
        ({"trace": {"a": 1}}, "field 'trace.a'.*got 1"),
        ({"n": "1"}, "field 'n'.*got '1'"),
        ({"n": 1.0}, r"field 'n'.*got 1.0 \(float\)"),
    ],
)
def test_refused_values(bad: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidEvent, match=complaint):
        Ping(**{"ts_event": 1, **bad})


def test_several_wrong_fields_are_all_named() -> None:
    with pytest.raises(InvalidEvent, match=r"field 'ts_event' is missing; 2 more wrong: n, zz$"):
        Ping(n="x", zz=1)
    many = {f"z{i}": i for i in range(8)}
    with pytest.raises(InvalidEvent, match=r"7 more wrong: z1, z2, z3, z4, z5, \.\.\.$"):
        Ping(ts_event=1, **many)


def test_long_values_are_cut() -> None:
    with pytest.raises(InvalidEvent) as caught:
        Ping(ts_event="9" * 1_000_000)
    assert len(str(caught.value)) < 250


def test_empty_envelope_fields_stay_off_the_wire_and_payload_fields_do_not() -> None:
    ping = Ping(ts_event=1)
    assert json.loads(encode(ping)) == {
        "type": "event.ping",
        "v": 1,
        "id": str(ping.id),
        "ts_event": 1,
        "n": 0,
        "note": None,
    }


def test_every_envelope_field_is_written_in_order_when_set() -> None:
    one, two = new_id(), new_id()
    ping = Ping(
        ts_event=1,
        ts_published=0,
        source="s",
        key="k",
        correlation_id=one,
        causation_id=two,
        priority=Lane.HIGH,
        valid_for_ms=5,
        trace={"traceparent": "00-x"},
    )
    assert list(json.loads(encode(ping))) == [
        *("type", "v", "id", "ts_event", "ts_published", "source", "key", "correlation_id"),
        *("causation_id", "priority", "valid_for_ms", "trace", "n", "note"),
    ]
    assert decode(encode(ping)) == ping


def test_stamped_is_a_copy(quote: MarketDataEvent) -> None:
    stamped = quote.stamped(77)
    assert type(stamped) is MarketDataEvent
    assert (stamped.ts_published, quote.ts_published) == (77, None)
    assert stamped.model_copy(update={"ts_published": None}) == quote
    assert "ts_published" in stamped.model_fields_set
    assert "ts_published" not in quote.model_fields_set
    assert decode(encode(stamped)) == stamped


def test_caused_by_a_first_cause(quote: MarketDataEvent, order: OrderEvent) -> None:
    made = new_id()
    effect = order.caused_by(quote, event_id=made)
    assert (effect.id, effect.causation_id, effect.correlation_id) == (made, quote.id, quote.id)
    assert effect.trace is None
    assert order.causation_id is None
    assert decode(encode(effect)) == effect


def test_caused_by_hands_down_correlation_and_trace(order: OrderEvent) -> None:
    cause = Ping(ts_event=1, correlation_id=new_id(), trace={"traceparent": "00-x"})
    effect = order.caused_by(cause, event_id=new_id())
    assert effect.correlation_id == cause.correlation_id
    assert effect.trace == cause.trace


def test_caused_by_leaves_what_the_event_has(quote: MarketDataEvent) -> None:
    own = UUID(int=5)
    event = Ping(ts_event=1, correlation_id=own, trace={"traceparent": "own"})
    cause = Ping(ts_event=1, trace={"traceparent": "other"})
    effect = event.caused_by(cause, event_id=new_id())
    assert effect.correlation_id == own
    assert effect.trace == {"traceparent": "own"}
    assert effect.causation_id == cause.id


def test_a_decode_does_not_go_through_the_constructor(
    quote: MarketDataEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def constructor(self: Event, /, **data: Any) -> None:
        raise AssertionError("the hot path must not come here")

    data = encode(quote)
    monkeypatch.setattr(MarketDataEvent, "__init__", constructor)
    assert decode(data) == quote
