"""CloudEvents 1.0, in and out: the JSON format in structured mode, without loss for our own events.

| attribute | of the event | defined in |
|---|---|---|
| `specversion` | `1.0` | CloudEvents 1.0, Required Attributes |
| `id` | `id` | the same; a foreign id that is no UUID, see `from_cloudevent` |
| `source` | `source` | the same: a URI-reference that is not empty |
| `type` | prefix and `type` | the same: should begin with a reverse-DNS name |
| `time` | `ts_event` | CloudEvents 1.0, Optional Attributes; RFC 3339, to the nanosecond |
| `subject` | `key` | the same; left out where it is empty |
| `datacontenttype` | `application/json` | the same |
| `dataschema` | `urn:streamatiq:event:TYPE:V` | the same: another URI for another version |
| `data` | the fields of the payload | JSON Event Format 1.0, 3.1 |
| `traceparent`, `tracestate` | `trace` | Distributed Tracing extension |
| `correlationid`, `causationid` | the fields of that name | Correlation extension |
| `recordedtime` | `ts_published` | Recorded Time extension |
| `streamatiqenvelope` | what the others cannot say | ours: a JSON object as text |

The last is there only when needed: a priority or a time limit is set, the source is empty or no
URI-reference, the key holds control characters, the trace holds more than W3C's two names.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from pydantic_core import from_json, to_json

from ..errors import EventDecodeError, InvalidEvent
from .cloudevent_text import id_text, is_json, is_reverse_dns, is_string, is_uri_reference
from .codec import decode_as, encode
from .event import Event
from .problems import shown
from .registry import event_class
from .rfc3339 import rfc3339, rfc3339_ns

__all__ = ["from_cloudevent", "to_cloudevent"]

#: The envelope's fields; all others are payload.
_ENVELOPE: Final = frozenset(Event.model_fields)
#: Fields that `streamatiqenvelope` may hold.
_INEXACT: Final = frozenset({"source", "key", "priority", "valid_for_ms", "trace"})
_TRACE: Final = ("traceparent", "tracestate")
_SCHEMA: Final = "urn:streamatiq:event:"
_VERSIONED: Final = re.compile(rf"{_SCHEMA}([a-z0-9_.-]+):([1-9][0-9]{{0,8}})")
#: Ids, by attribute.
_IDS: Final = {"correlationid": "correlation_id", "causationid": "causation_id"}


def to_cloudevent(
    event: Event, *, type_prefix: str = "", default_source: str = "/streamatiq"
) -> dict[str, Any]:
    """Return an event as a CloudEvent 1.0, ready for `json.dumps`.

    `from_cloudevent` gives back an equal event. Decimals stay text and ints stay ints; `data` may
    hold ints beyond 2**53 (times in ns), which some JavaScript readers round.

    Parameters:
      event: The event; it need not be published yet.
      type_prefix: Reverse-DNS name to stand before the type, such as `com.example`.
      default_source: `source` of an event that names none, a URI-reference.

    Raises:
      InvalidEvent: The prefix or the default source is none, or the event cannot be encoded.
    """
    if type_prefix and not is_reverse_dns(type_prefix):
        raise InvalidEvent(
            f"type_prefix {shown(type_prefix)} is no reverse-DNS name; "
            'give one such as "com.example", without a dot at its end'
        )
    if not is_uri_reference(default_source):
        raise InvalidEvent(
            f"default_source {shown(default_source)} is no URI-reference; "
            'give one such as "/streamatiq" or "https://example.com/desk"'
        )
    fields = from_json(encode(event))
    inexact = {name: fields[name] for name in ("priority", "valid_for_ms") if name in fields}
    made: dict[str, Any] = {
        "specversion": "1.0",
        "id": fields["id"],
        "source": event.source,
        "type": f"{type_prefix}.{event.type}" if type_prefix else event.type,
        "time": rfc3339(event.ts_event),
        "datacontenttype": "application/json",
        "dataschema": f"{_SCHEMA}{event.type}:{event.v}",
    }
    if not is_uri_reference(event.source):
        made["source"] = quote(event.source) or default_source
        inexact["source"] = event.source
    if is_string(event.key):
        made["subject"] = event.key
    elif event.key:
        inexact["key"] = event.key
    made |= {attribute: fields[name] for attribute, name in _IDS.items() if name in fields}
    if event.ts_published is not None:
        made["recordedtime"] = rfc3339(event.ts_published)
    if event.trace is not None:
        trace = _trace_attributes(event.trace)
        if not trace or list(trace.items()) != list(event.trace.items()):
            inexact["trace"] = event.trace
        made |= trace
    if inexact:
        made["streamatiqenvelope"] = json.dumps(inexact, separators=(",", ":"))
    made["data"] = {name: value for name, value in fields.items() if name not in _ENVELOPE}
    return made


def from_cloudevent(cloudevent: Mapping[str, Any], *, type_prefix: str = "") -> Event:
    """Return the event that a CloudEvent 1.0 holds, of the class registered for its type.

    One from elsewhere is taken when its `type` is registered, it has a `time`, and `data` is a JSON
    object with the payload's fields. Its `dataschema` says the version only where it is one of
    ours; otherwise the present version is meant. Extensions that the module does not list are
    ignored, as the specification recommends.

    An `id` that is no UUID becomes one that `source` and `id` alone decide, so that the same event
    sent twice is known by the publish dedupe: `uuid5(uuid5(NAMESPACE_URL, source), id)`. The same
    goes for `correlationid` and `causationid`, taken as ids of the same source.

    Parameters:
      cloudevent: The decoded JSON object. Parse it with `json.loads`; what must be exact is text.
      type_prefix: Stands before the type, as in `to_cloudevent`; required if given.

    Raises:
      EventDecodeError: An attribute or a field is missing or bad; it is named.
      SchemaVersionError: Its version is newer than the code, or has no upcaster.
      UnknownEventType: No class is registered for the type.
    """
    who = f"CloudEvent {shown(cloudevent.get('id'))} of {shown(cloudevent.get('source'))}"
    try:
        cls, fields = _envelope(cloudevent, type_prefix)
        payload = _payload(cloudevent)
        shared = sorted(payload.keys() & _ENVELOPE)
        if shared:
            raise ValueError(f"'data' holds {shared[0]!r}, which is no field of a payload")
        stored = _wire(fields | payload)
    except ValueError as error:
        raise EventDecodeError(f"{who}: {error}") from None
    try:
        return decode_as(cls, stored)
    except EventDecodeError as error:
        raise type(error)(
            f"{who} (its subject is the key, its data the payload): {error}"
        ) from error


def _wire(fields: dict[str, Any]) -> bytes:
    try:
        return to_json(fields)
    except ValueError as error:  # pydantic-core's own error is one
        raise ValueError(f"it holds what is no JSON: {error}") from None


def _trace_attributes(trace: Mapping[str, str]) -> dict[str, str]:
    """Return what the Distributed Tracing extension can say; it needs a `traceparent`."""
    if not is_string(trace.get("traceparent", "")):
        return {}
    return {name: trace[name] for name in _TRACE if is_string(trace.get(name, ""))}


def _text(given: Mapping[str, Any], name: str) -> str | None:
    """Return an attribute that is text, or None where it is absent or null, which is the same."""
    value = given.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError(f"attribute {name!r}: give text that is not empty, got {shown(value)}")
    return value


def _required(given: Mapping[str, Any], name: str, what: str) -> str:
    value = _text(given, name)
    if value is None:
        raise ValueError(f"attribute {name!r} is missing; it is {what}")
    return value


def _time(name: str, text: str) -> int:
    try:
        return rfc3339_ns(text)
    except ValueError as error:
        raise ValueError(f"attribute {name!r}: {error}, got {shown(text)}") from None


def _envelope(given: Mapping[str, Any], type_prefix: str) -> tuple[type[Event], dict[str, Any]]:
    """Return the event class and the envelope, as on our wire."""
    specversion = _required(given, "specversion", "'1.0'")
    if specversion != "1.0":
        raise ValueError(f"attribute 'specversion' is not '1.0': got {shown(specversion)}")
    source = _required(given, "source", "a URI-reference")
    event_id = _required(given, "id", "unique within its source")
    cls = _class(_required(given, "type", "the registered type"), type_prefix)
    time = _required(given, "time", "when it happened, which every event must say")
    fields: dict[str, Any] = {
        "type": cls.event_type,
        "v": _version(cls, _text(given, "dataschema")),
        "id": id_text(source, event_id),
        "ts_event": _time("time", time),
        "source": source,
    }
    subject, recorded = _text(given, "subject"), _text(given, "recordedtime")
    if subject is not None:
        fields["key"] = subject
    if recorded is not None:
        fields["ts_published"] = _time("recordedtime", recorded)
    for attribute, name in _IDS.items():
        other = _text(given, attribute)
        if other is not None:
            fields[name] = id_text(source, other)
    trace = {name: text for name in _TRACE if (text := _text(given, name)) is not None}
    if trace:
        fields["trace"] = trace
    return cls, fields | _inexact(_text(given, "streamatiqenvelope"))


def _class(type_name: str, type_prefix: str) -> type[Event]:
    front = f"{type_prefix}." if type_prefix else ""
    if not type_name.startswith(front):
        raise ValueError(f"attribute 'type' does not begin with {front!r}: got {shown(type_name)}")
    return event_class(type_name[len(front) :])


def _version(cls: type[Event], dataschema: str | None) -> int:
    """Return the version that a schema of ours names; otherwise the present one is meant."""
    if dataschema is None or not dataschema.startswith(_SCHEMA):
        return cls.schema_version
    found = _VERSIONED.fullmatch(dataschema)
    if found is None or found[1] != cls.event_type:
        raise ValueError(
            f"attribute 'dataschema' names no version of {cls.event_type}: "
            f"got {shown(dataschema)}, should be like '{_SCHEMA}{cls.event_type}:1'"
        )
    return int(found[2])


def _inexact(text: str | None) -> dict[str, Any]:
    """Return what the attribute `streamatiqenvelope` holds."""
    fields = {} if text is None else _parsed("attribute 'streamatiqenvelope'", text)
    if not isinstance(fields, dict) or not fields.keys() <= _INEXACT:
        raise ValueError(
            "attribute 'streamatiqenvelope' is no JSON object of "
            f"{', '.join(sorted(_INEXACT))}: got {shown(text)}"
        )
    return fields


def _payload(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the payload's fields; none where there is no data."""
    media_type = _text(given, "datacontenttype") or "application/json"
    if not is_json(media_type):
        raise ValueError(f"attribute 'datacontenttype' is no JSON: got {shown(media_type)}")
    encoded = _text(given, "data_base64")
    if encoded is not None and "data" in given:
        raise ValueError("both 'data' and 'data_base64' are there; one of them is too many")
    data = given.get("data", {}) if encoded is None else _parsed("'data_base64'", _bytes(encoded))
    if not isinstance(data, Mapping):
        raise ValueError(f"'data' is no JSON object of the payload's fields: got {shown(data)}")
    return dict(data)


def _parsed(name: str, text: str | bytes) -> Any:
    try:
        return from_json(text)
    except ValueError as error:
        raise ValueError(f"{name} holds no JSON: {error}, got {shown(text)}") from None


def _bytes(encoded: str) -> bytes:
    try:
        return b64decode(encoded, validate=True)
    except ValueError as error:
        raise ValueError(f"'data_base64' is no Base64: {error}, got {shown(encoded)}") from None
