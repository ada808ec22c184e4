"""CloudEvents 1.0 over HTTP: the binary content mode out, binary and structured in.

In binary mode the payload is the body, and each attribute a header `ce-NAME` whose value is
percent-encoded (HTTP Protocol Binding 1.0, 3.1). Headers and body are values here: sending them is
the business of whatever HTTP library is at hand.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

from pydantic_core import from_json, to_json

from ..errors import EventDecodeError
from .cloudevents import from_cloudevent, to_cloudevent
from .event import Event
from .problems import shown

__all__ = ["from_cloudevent_http", "to_cloudevent_http"]

_STRUCTURED: Final = "application/cloudevents+json"
#: Printable ASCII that stays as it is in a header (3.1.3.2): all but space, double quote, percent.
_SAFE: Final = "".join(map(chr, range(0x21, 0x7F))).replace('"', "").replace("%", "")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)


def to_cloudevent_http(
    event: Event, *, type_prefix: str = "", default_source: str = "/streamatiq"
) -> tuple[dict[str, str], bytes]:
    """Return headers and body of an event in binary content mode.

    Parameters and errors are those of `to_cloudevent`.
    """
    made = to_cloudevent(event, type_prefix=type_prefix, default_source=default_source)
    body = to_json(made.pop("data"))
    headers = {"content-type": made.pop("datacontenttype")}
    headers |= {f"ce-{name}": quote(value, safe=_SAFE) for name, value in made.items()}
    return headers, body


def from_cloudevent_http(
    headers: Mapping[str, str], body: bytes, *, type_prefix: str = ""
) -> Event:
    """Return the event in an HTTP message, in binary or (JSON) structured content mode.

    Parameters:
      headers: Of the message; their case does not matter.
      body: Of the message.
      type_prefix: See `from_cloudevent`, which also says what is taken and what is refused.

    Raises:
      EventDecodeError: Also for another event format, for a batch, and for no CloudEvent at all.
      SchemaVersionError, UnknownEventType: See `from_cloudevent`.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    content_type = lower.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == _STRUCTURED:
        return from_cloudevent(_object(body), type_prefix=type_prefix)
    if media_type.startswith("application/cloudevents"):
        raise EventDecodeError(
            f"HTTP message of content-type {shown(content_type)}: send {_STRUCTURED}, one event a "
            "message, or binary mode"
        )
    found: dict[str, Any] = {
        name[3:]: _decoded(name, value) for name, value in lower.items() if name[:3] == "ce-"
    }
    if content_type:
        found["datacontenttype"] = content_type
    if body:
        found["data_base64"] = b64encode(body).decode()
    return from_cloudevent(found, type_prefix=type_prefix)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = from_json(body)
    except ValueError as error:
        raise EventDecodeError(f"Not a CloudEvent, no JSON: {error}, got {shown(body)}") from None
    if not isinstance(found, dict):
        raise EventDecodeError(f"Not a CloudEvent, no JSON object: got {shown(found)}")
    return found


def _decoded(name: str, value: str) -> str:
    """Return a header's value without quotes and percent-encoding, in that order (3.1.3.2)."""
    plain = _QUOTED.sub(lambda quoted: re.sub(r"\\(.)", r"\1", quoted[1]), value.strip())
    try:
        return unquote(plain, errors="strict")
    except UnicodeDecodeError:
        raise EventDecodeError(
            f"HTTP header {name!r} is no percent-encoded UTF-8: got {shown(value)}"
        ) from None
