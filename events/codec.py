"""Events to bytes and back: compact JSON, in one pass of pydantic-core each way.

The order of keys is fixed: `type`, `v`, the envelope, the payload in the order of its fields. So
`decode` reads the type name off the front of the bytes; bytes from a foreign writer with another
order are parsed once more to find it. `decode_as` is the hot path: the reader of a log knows the
class already. An older schema version is looked for only in what that one pass has refused.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json

from ..errors import EventDecodeError, EventDefinitionError, InvalidEvent, SchemaVersionError
from .event import Event
from .problems import describe, fields_of, shown
from .registry import event_class, known_class
from .upcasting import lifted, name_of

__all__ = ["decode", "decode_as", "encode"]

E = TypeVar("E", bound=Event)

_FRONT = b'{"type":"'
_FRONT_LENGTH = len(_FRONT)


def encode(event: Event) -> bytes:
    """Return an event as JSON.

    Raises:
      InvalidEvent: The event was put together past its checks and holds a value of a wrong type.
    """
    try:
        return event.__pydantic_serializer__.to_json(event, warnings="error")
    except PydanticSerializationError as error:
        raise InvalidEvent(f"{type(event).__name__} cannot be encoded: {error}") from None


def decode_as(cls: type[E], data: bytes) -> E:
    """Return the event of a known class that some bytes hold.

    An event of an older schema version is brought up by the class's upcasters.

    Raises:
      EventDecodeError: They hold none, field and value are named; or an upcaster failed.
      SchemaVersionError: They hold one of a newer version, or of one without an upcaster.
      EventDefinitionError: The class is abstract.
    """
    try:
        return cls.__pydantic_validator__.validate_json(data)  # type: ignore[no-any-return]  # it validates to cls
    except ValidationError as error:
        older = lifted(cls, data)
        if older is None:
            raise _refusal(cls, data, error) from None
    except Exception as error:  # a class's own validator may raise anything
        older = lifted(cls, data)
        if older is None:
            raise _failed(cls, f"{cls.event_type} event", error) from error
    return _decode_lifted(cls, *older)


def _decode_lifted(cls: type[E], data: bytes, stored_as: int) -> E:
    """Return the event that one of an older version has become."""
    try:
        return cls.__pydantic_validator__.validate_json(data)  # type: ignore[no-any-return]  # it validates to cls
    except ValidationError as error:
        called = name_of(cls, from_json(data).get("id"), stored_as)
        raise EventDecodeError(describe(f"Not a {called}", error)) from None
    except Exception as error:
        called = name_of(cls, from_json(data).get("id"), stored_as)
        raise _failed(cls, called, error) from error


def decode(data: bytes) -> Event:
    """Return the event that some bytes hold, of the class registered for the type they name.

    An event of an older schema version is brought up by the class's upcasters.

    Raises:
      EventDecodeError: They hold no event, field and value are named; or an upcaster failed.
      SchemaVersionError: They hold one of a newer version, or of one without an upcaster.
      UnknownEventType: No class is registered for the type.
    """
    cls: type[Event] | None = None
    if data.startswith(_FRONT):
        name = data[_FRONT_LENGTH : data.find(b'"', _FRONT_LENGTH)]
        cls = known_class(name.decode(errors="replace"))
    return decode_as(cls or event_class(_type_of(data)), data)


def _type_of(data: bytes) -> str:
    try:
        found = from_json(data)
    except ValueError as error:
        raise EventDecodeError(f"Not an event, no JSON: {error}, got {shown(data)}") from None
    name = found.get("type") if isinstance(found, dict) else None
    if not isinstance(name, str):
        raise EventDecodeError(f"Not an event, field 'type' is no type name: got {shown(data)}")
    return name


def _refusal(cls: type[Event], data: bytes, error: ValidationError) -> Exception:
    if not cls.event_type:
        return EventDefinitionError(
            f"{cls.__name__} is abstract and cannot be decoded; use decode(data)"
        )
    wrong = fields_of(error)
    if "v" in wrong and "type" not in wrong:
        return _wrong_version(cls, from_json(data).get("v"))
    return EventDecodeError(describe(f"Not a {cls.event_type} event", error))


def _failed(cls: type[Event], called: str, error: Exception) -> EventDecodeError:
    return EventDecodeError(f"Not a {called}: a validator of {cls.__name__} failed with {error!r}")


def _wrong_version(cls: type[Event], found: object) -> SchemaVersionError:
    oldest = min(cls.upcasters, default=cls.schema_version)
    reads = f"version {cls.schema_version}"
    if oldest < cls.schema_version:
        reads = f"versions {oldest} to {cls.schema_version}"
    older = type(found) is int and 1 <= found < oldest
    return SchemaVersionError(
        f"{cls.event_type} event has schema version v={shown(found)}, and {cls.__name__} reads "
        f"{reads}; " + (f"declare @upcast({found})" if older else "deploy the code that knows it")
    )
