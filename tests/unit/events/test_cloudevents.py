"""CloudEvents 1.0: what ours look like, what others' become, what is refused and why."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import pytest

from streamatiq.errors import (
    EventDecodeError,
    InvalidEvent,
    SchemaVersionError,
    UnknownEventType,
)
from streamatiq.events import (
    Event,
    FillEvent,
    Lane,
    MarketDataEvent,
    OrderEvent,
    SignalEvent,
    encode,
    from_cloudevent,
    from_cloudevent_http,
    to_cloudevent,
    to_cloudevent_http,
    upcast,
)
from streamatiq.events.cloudevent_text import is_json, is_uri_reference

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Note(Event, type="cloudevents.note", version=2):
    text: str = ""

    @upcast(1)
    @staticmethod
    def _rename(stored: dict[str, Any]) -> dict[str, Any]:
        stored["text"] = stored.pop("body")
        return stored


def foreign(**changes: Any) -> dict[str, Any]:
    """A CloudEvent from elsewhere; None takes an attribute out."""
    made = {
        "specversion": "1.0",
        "type": "cloudevents.note",
        "source": "https://example.com/notes",
        "id": "A234-1234-1234",
        "time": "2018-04-05T17:31:00Z",
        "data": {"text": "hello"},
    } | changes
    return {name: value for name, value in made.items() if value is not None}


def test_a_quote_as_a_cloudevent(quote: MarketDataEvent) -> None:
    assert to_cloudevent(quote.stamped(quote.ts_event + 1), type_prefix="com.example") == {
        "specversion": "1.0",
        "id": str(quote.id),
        "source": "feed",
        "type": "com.example.market_data",
        "time": "2024-08-08T23:54:13.937000000Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:streamatiq:event:market_data:1",
        "subject": "BINANCE-UM:BTCUSDT",
        "recordedtime": "2024-08-08T23:54:13.937000001Z",
        "data": {
            "ts_recv": quote.ts_recv,
            "data": {
                "kind": "quote",
                "bid_px": "61234.10",
                "bid_sz": "1.234",
                "ask_px": "61234.20",
                "ask_sz": "0.100",
                "update_id": 4711,
            },
        },
    }


def test_what_only_our_own_extension_can_say(
    quote: MarketDataEvent, order: OrderEvent, fill: FillEvent, signal: SignalEvent
) -> None:
    odd = Note(
        ts_event=1,
        source="desk 1",
        key="a\nb",
        priority=Lane.HIGH,
        valid_for_ms=10**12,
        trace={"traceparent": PARENT, "baggage": "x=1"},
        correlation_id=quote.id,
        causation_id=order.id,
    )
    made = to_cloudevent(odd)
    assert made["source"] == "desk%201"
    assert made["traceparent"] == PARENT
    assert (made["correlationid"], made["causationid"]) == (str(quote.id), str(order.id))
    assert "subject" not in made
    assert json.loads(made["streamatiqenvelope"]) == {
        "priority": "high",
        "valid_for_ms": 10**12,
        "source": "desk 1",
        "key": "a\nb",
        "trace": odd.trace,
    }
    for event in (odd, quote, order, fill, signal, Note(ts_event=0)):
        made = to_cloudevent(event)
        # CloudEvents 1.0, Naming Conventions and Type System.
        for name, value in made.items():
            assert re.fullmatch(r"[a-z0-9]{1,20}", name)
            assert name == "data" or (isinstance(value, str) and value.isprintable())
        assert is_uri_reference(made["source"])
        back = from_cloudevent(json.loads(json.dumps(made)))
        assert back == event
        assert encode(back) == encode(event)


def test_an_event_without_a_source_gets_one() -> None:
    note = Note(ts_event=1)
    assert to_cloudevent(note)["source"] == "/streamatiq"
    made = to_cloudevent(note, default_source="https://example.com/desk")
    assert made["source"] == "https://example.com/desk"
    assert from_cloudevent(made) == note
    for bad in ("", "a b", "1:2", "#a#b", "/a%zz"):
        with pytest.raises(InvalidEvent, match=r"default_source .* is no URI-reference"):
            to_cloudevent(note, default_source=bad)


@pytest.mark.parametrize("prefix", ["com.example.", ".com", "com..example", "com example", "a/b"])
def test_a_prefix_is_a_name(prefix: str) -> None:
    with pytest.raises(InvalidEvent, match=r"type_prefix .* is no reverse-DNS name"):
        to_cloudevent(Note(ts_event=1), type_prefix=prefix)


@pytest.mark.parametrize(
    ("trace", "attributes", "exact"),
    [
        ({"traceparent": PARENT, "tracestate": "a=1"}, ["traceparent", "tracestate"], True),
        ({"traceparent": PARENT}, ["traceparent"], True),
        ({"tracestate": "a=1", "traceparent": PARENT}, ["traceparent", "tracestate"], False),
        ({"tracestate": "a=1"}, [], False),
        ({"traceparent": "", "tracestate": "a=1"}, [], False),
        ({"traceparent": PARENT, "tracestate": "a\n"}, ["traceparent"], False),
        ({}, [], False),
    ],
)
def test_trace_context(trace: dict[str, str], attributes: list[str], exact: bool) -> None:
    note = Note(ts_event=1, source="/s", trace=trace)
    made = to_cloudevent(note)
    assert [name for name in made if name.startswith("trace")] == attributes
    assert ("streamatiqenvelope" not in made) is exact
    assert encode(from_cloudevent(made)) == encode(note)


def test_an_event_from_elsewhere() -> None:
    source = "https://example.com/notes"
    note = from_cloudevent(
        foreign(
            type="com.example.cloudevents.note",
            subject="desk",
            comexampleextension=5,
            dataschema="https://example.com/note.json",
            datacontenttype="application/vnd.note+json; charset=utf-8",
            correlationid="txn-1",
            causationid="01913493-2f31-7c11-8a3b-0123456789AB",
            traceparent=PARENT,
            recordedtime="2018-04-05T19:31:00.5+02:00",
        ),
        type_prefix="com.example",
    )
    namespace = uuid5(NAMESPACE_URL, source)
    assert note == Note(
        id=uuid5(namespace, "A234-1234-1234"),
        ts_event=1_522_949_460_000_000_000,
        ts_published=1_522_949_460_500_000_000,
        source=source,
        key="desk",
        text="hello",
        correlation_id=uuid5(namespace, "txn-1"),
        causation_id=UUID("01913493-2f31-7c11-8a3b-0123456789ab"),
        trace={"traceparent": PARENT},
    )


def test_null_is_as_good_as_absent() -> None:
    event = {**foreign(), "subject": None, "dataschema": None, "traceparent": None}
    assert from_cloudevent(event) == from_cloudevent(foreign())


def test_an_event_without_data_has_no_payload() -> None:
    assert from_cloudevent(foreign(data=None)).text == ""  # type: ignore[attr-defined]  # a Note


def test_binary_data_that_is_json() -> None:
    encoded = b64encode(b'{"text":"hello"}').decode()
    assert from_cloudevent(foreign(data=None, data_base64=encoded)) == from_cloudevent(foreign())


def test_versions() -> None:
    ours = {"dataschema": "urn:streamatiq:event:cloudevents.note:1", "data": {"body": "old"}}
    assert from_cloudevent(foreign(**ours)).text == "old"  # type: ignore[attr-defined]  # a Note
    with pytest.raises(SchemaVersionError, match=r"CloudEvent 'A234.*v=3 .*reads versions 1 to 2"):
        from_cloudevent(foreign(dataschema="urn:streamatiq:event:cloudevents.note:3"))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"specversion": None}, "attribute 'specversion' is missing; it is '1.0'"),
        ({"specversion": "0.3"}, "attribute 'specversion' is not '1.0': got '0.3'"),
        ({"id": None}, r"CloudEvent None \(NoneType\) .*attribute 'id' is missing"),
        ({"id": ""}, "attribute 'id': give text that is not empty, got ''"),
        ({"id": 5}, r"attribute 'id': give text .*got 5 \(int\)"),
        ({"source": None}, "attribute 'source' is missing; it is a URI-reference"),
        ({"type": None}, "attribute 'type' is missing"),
        ({"time": None}, "attribute 'time' is missing; it is when it happened"),
        ({"time": "yesterday"}, "attribute 'time': give RFC 3339 text .*got 'yesterday'"),
        ({"time": "2018-04-05T17:31:00"}, "attribute 'time': give RFC 3339 text with a zone"),
        ({"time": "2018-13-05T17:31:00Z"}, "attribute 'time': month must be in"),
        ({"time": "2018-04-05T17:31:61Z"}, "attribute 'time': second must be in"),
        ({"time": "2018-04-05T17:31:00.0000000001Z"}, "attribute 'time': more digits than nano"),
        ({"time": "1969-04-05T17:31:00Z"}, "field 'ts_event'.*greater than or equal to 0"),
        ({"recordedtime": "now"}, "attribute 'recordedtime': give RFC 3339"),
        ({"subject": 5}, "attribute 'subject': give text"),
        ({"correlationid": ""}, "attribute 'correlationid': give text"),
        ({"traceparent": 7}, "attribute 'traceparent': give text"),
        ({"datacontenttype": "text/xml"}, "attribute 'datacontenttype' is no JSON: got 'text/xml'"),
        ({"data": "hello"}, r"'data' is no JSON object of the payload's fields: got 'hello'"),
        ({"data": {"text": "x", "id": "y"}}, "'data' holds 'id', which is no field of a payload"),
        ({"data": {"text": object()}}, "it holds what is no JSON: Unable to serialize"),
        ({"data": {"text": 5}}, r"the payload\): Not a cloudevents.note event: field 'text'.*5"),
        ({"data": {"text": "", "more": 1}}, "field 'more' is unknown"),
        ({"data_base64": "e30="}, "both 'data' and 'data_base64' are there"),
        ({"data": None, "data_base64": "e3"}, "'data_base64' is no Base64: .*got 'e3'"),
        ({"data": None, "data_base64": "ew=="}, "'data_base64' holds no JSON: EOF"),
        ({"data": None, "data_base64": "W10="}, r"'data' is no JSON object .*got \[\]"),
        ({"dataschema": "urn:streamatiq:event:order:1"}, "'dataschema' names no version of cloud"),
        ({"dataschema": "urn:streamatiq:event:x"}, "'dataschema' names no version of cloudevents"),
        ({"streamatiqenvelope": "{"}, "attribute 'streamatiqenvelope' holds no JSON: EOF"),
        ({"streamatiqenvelope": "[]"}, "'streamatiqenvelope' is no JSON object of key, priority"),
        ({"streamatiqenvelope": '{"id":"x"}'}, "'streamatiqenvelope' is no JSON object of key"),
        ({"streamatiqenvelope": '{"priority":"now"}'}, "field 'priority'.*got 'now'"),
    ],
)
def test_cloudevents_that_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(EventDecodeError, match=complaint) as caught:
        from_cloudevent(foreign(**changes))
    assert str(caught.value).startswith("CloudEvent ")


def test_an_explicit_null_is_no_payload() -> None:
    with pytest.raises(EventDecodeError, match=r"'data' is no JSON object .*got None"):
        from_cloudevent({**foreign(), "data": None})


def test_types_that_nobody_declared() -> None:
    with pytest.raises(UnknownEventType, match=r"'com\.example\.other'"):
        from_cloudevent(foreign(type="com.example.other"))
    with pytest.raises(EventDecodeError, match=r"does not begin with 'com\.example\.': got 'cloud"):
        from_cloudevent(foreign(), type_prefix="com.example")


def test_an_instrument_is_the_subject(quote: MarketDataEvent) -> None:
    made = to_cloudevent(quote)
    del made["subject"]
    with pytest.raises(EventDecodeError, match=r"its subject is the key.*field 'key' is missing"):
        from_cloudevent(made)


def test_prices_as_json_numbers_are_refused(quote: MarketDataEvent) -> None:
    sent = json.dumps(to_cloudevent(quote)).replace('"61234.10"', "61234.10")
    with pytest.raises(EventDecodeError, match=r"field 'data.quote.bid_px'.*61234.1 \(float\)"):
        from_cloudevent(json.loads(sent))
    exact = json.loads(sent, parse_float=Decimal)
    assert encode(from_cloudevent(exact)) == encode(quote), "unless the reader keeps the digits"


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("https://user:pw@example.com:80/a/b?c=d/e?#f?", True),
        ("mailto:a@example.com", True),
        ("urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66", True),
        ("/sensors/tn-1234567/alerts", True),
        ("1-555-123-4567", True),
        ("?q", True),
        ("#f", True),
        ("//example.com", True),
        ("file:///etc", True),
        ("", False),
        ("a b", False),
        ("1:2", False),
        ("//a:b", False),
        ("//a@b@c", False),
        ("a#b#c", False),
        ("%4", False),
        ("caf\u00e9", False),
        ("a\n", False),
    ],
)
def test_uri_references(text: str, good: bool) -> None:
    assert is_uri_reference(text) is good


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("application/json", True),
        ("Text/JSON ; charset=utf-8", True),
        ("application/cloudevents+json", True),
        ("json", False),
        ("application/jsonp", False),
        ("application/xml", False),
        ("application/json+xml", False),
    ],
)
def test_media_types(text: str, good: bool) -> None:
    assert is_json(text) is good


def test_http_binary_mode(quote: MarketDataEvent) -> None:
    euro = quote.model_copy(update={"key": 'V:Euro\u20ac\U0001f600"%', "trace": {"x": "y z"}})
    headers, body = to_cloudevent_http(euro, type_prefix="com.example")
    assert headers == {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": str(quote.id),
        "ce-source": "feed",
        "ce-type": "com.example.market_data",
        "ce-time": "2024-08-08T23:54:13.937000000Z",
        "ce-dataschema": "urn:streamatiq:event:market_data:1",
        "ce-subject": "V:Euro%E2%82%AC%F0%9F%98%80%22%25",
        "ce-streamatiqenvelope": "{%22trace%22:{%22x%22:%22y%20z%22}}",
    }
    assert json.loads(body) == to_cloudevent(euro)["data"]
    shouted = {name.upper(): value for name, value in headers.items()}
    assert from_cloudevent_http(shouted, body, type_prefix="com.example") == euro


def http(**changes: str) -> dict[str, str]:
    made = {"ce-specversion": "1.0", "ce-type": "cloudevents.note", "ce-source": "/n", "ce-id": "1"}
    return made | {"ce-time": "2018-04-05T17:31:00Z", "other": "%zz"} | changes


def test_http_from_elsewhere() -> None:
    quoted = from_cloudevent_http(http(**{"ce-subject": r'"a \"b\" %63" '}), b'{"text":"x"}')
    assert (quoted.key, quoted.text) == ('a "b" c', "x")  # type: ignore[attr-defined]  # a Note
    assert from_cloudevent_http(http(), b"").text == ""  # type: ignore[attr-defined]  # a Note
    structured = from_cloudevent_http(
        {"content-type": "Application/CloudEvents+JSON; charset=UTF-8"},
        json.dumps(foreign()).encode(),
    )
    assert structured == from_cloudevent(foreign())


@pytest.mark.parametrize(
    ("headers", "body", "complaint"),
    [
        ({"content-type": "application/cloudevents-batch+json"}, b"[]", "one event a message"),
        ({"content-type": "application/cloudevents+avro"}, b"", "send application/cloudevents.js"),
        ({"content-type": "application/cloudevents+json"}, b"{", "Not a CloudEvent, no JSON: "),
        ({"content-type": "application/cloudevents+json"}, b"[]", "no JSON object: got "),
        (http(**{"ce-subject": "%C0%A0"}), b"{}", "'ce-subject' is no percent-encoded UTF-8"),
        (http(**{"content-type": "text/plain"}), b"x", "'datacontenttype' is no JSON"),
        (http(), b"x", "'data_base64' holds no JSON: expected value"),
        ({}, b"", "attribute 'specversion' is missing"),
    ],
)
def test_http_that_is_refused(headers: dict[str, str], body: bytes, complaint: str) -> None:
    with pytest.raises(EventDecodeError, match=complaint):
        from_cloudevent_http(headers, body)
