"""Upcasters: how an event that was stored under an older schema version becomes the present one.

A class of version N declares one function a step, 1 to 2, 2 to 3, and so on up to N. Each gets the
event as it stands on the wire, a mapping decoded from JSON, and returns it as the next version
would have written it. The chain runs when such bytes are read; what is stored stays as it is.

Reading the present version does not come here: the one pass of pydantic-core over the bytes
refuses another `v`, and only then is it looked up whether there is a way up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from pydantic_core import from_json, to_json

from ..errors import EventDecodeError, EventDefinitionError
from .problems import shown

if TYPE_CHECKING:
    from .event import Event

__all__ = ["Stored", "Upcast", "declared_upcasters", "lifted", "name_of", "upcast"]

#: An event as it stands on the wire: decoded JSON, so decimals are text and times are ints.
Stored: TypeAlias = dict[str, Any]
#: From one schema version to the next.
Upcast: TypeAlias = Callable[[Stored], Stored]

#: What a version may not change: who the event is, when it was, and what it belongs to.
_KEPT: Final = ("type", "id", "ts_event", "ts_published", "correlation_id", "causation_id")


class _Upcaster(staticmethod):  # type: ignore[type-arg]  # pydantic leaves static methods alone
    """A static method that carries the version it reads."""

    from_version: int


def upcast(from_version: int) -> Callable[[Upcast], Upcast]:
    """Declare a static method of an event class as the step from one version to the next.

    The function gets the whole event as a mapping of its own, which it may change and return. It
    should depend on nothing else: the same stored bytes must always give the same event. Fields
    `type`, `id`, `ts_event`, `ts_published`, `correlation_id` and `causation_id` stay as they are
    (else the event is refused); `v` is raised by the decoder.

    Parameters:
      from_version: Schema version that the function reads; it writes the next one.

    Raises:
      EventDefinitionError: It is no int; or, by the class statement: versions have a gap, come
        twice, or are not below the class's own.
    """

    if from_version.__class__ is not int:
        raise EventDefinitionError(
            f"@upcast({from_version!r}): give the schema version that it reads, as in @upcast(1)"
        )

    def declare(function: Upcast) -> Upcast:
        step = _Upcaster(getattr(function, "__func__", function))
        step.from_version = from_version
        return cast("Upcast", step)

    return declare


def declared_upcasters(cls: type[Event]) -> Mapping[int, Upcast]:
    """Return the upcasters in a class's own body by the version that each reads, oldest first.

    The oldest may read a later version than 1, once nothing older is stored any more.

    Raises:
      EventDefinitionError: See `upcast`.
    """
    found: dict[int, Upcast] = {}
    for name, step in vars(cls).items():
        if isinstance(step, _Upcaster):
            version = step.from_version
            wrong = _wrong(cls, version, found.get(version))
            if wrong:
                raise EventDefinitionError(f"{cls.__name__}.{name}: @upcast({version}) {wrong}")
            found[version] = step.__func__
    missing = [v for v in range(min(found, default=1), cls.schema_version) if v not in found]
    if found and missing:
        raise EventDefinitionError(
            f"{cls.__name__}: versions {', '.join(map(str, sorted(found)))} have an upcaster and "
            f"version {missing[0]} has none, so that there is no way up to version "
            f"{cls.schema_version}; declare @upcast({missing[0]})"
        )
    return MappingProxyType(dict(sorted(found.items())))


def _wrong(cls: type[Event], version: int, other: Upcast | None) -> str | None:
    """Return why a class cannot have an upcaster from a version, or None."""
    if not cls.event_type:
        return "is on an abstract event, which has no versions; give the class a type or move it"
    if cls.schema_version == 1:
        return "is on version 1, and there is none before it; raise version= of the class"
    if not 1 <= version < cls.schema_version:
        return (
            f"reads no older version of a class of version {cls.schema_version}; "
            f"give one from 1 to {cls.schema_version - 1}"
        )
    if other is not None:
        return f"comes twice: {other.__qualname__} reads that version too; keep one of them"
    return None


def lifted(cls: type[Event], data: bytes) -> tuple[bytes, int] | None:
    """Return what some bytes would be under the present version, and their own version.

    None where they are no event of an older version from which there is a way up: whatever is
    wrong with them, it is not for an upcaster to repair.

    Raises:
      EventDecodeError: An upcaster raises, or returns what is no JSON object, or changes a field
        that it must leave alone; names type, id and versions.
    """
    try:
        found = from_json(data) if cls.upcasters else None
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("type") != cls.event_type:
        return None
    stored_as = found.get("v")
    if stored_as.__class__ is not int or stored_as not in cls.upcasters:
        return None
    for version in range(stored_as, cls.schema_version):
        found = _next(cls, found, version)
    try:
        return to_json(found), stored_as
    except ValueError as error:  # pydantic-core's own error is one
        raise EventDecodeError(
            f"Not a {name_of(cls, found.get('id'), stored_as)}: it is no JSON any more: {error}"
        ) from error


def name_of(cls: type[Event], event_id: object, version: int) -> str:
    """Return what to call an event that was brought up, in a message."""
    return (
        f"{cls.event_type} event {shown(event_id)}, upcast from version {version} "
        f"to {cls.schema_version}"
    )


def _next(cls: type[Event], stored: Stored, version: int) -> Stored:
    """Return an event one version on."""
    upcaster = cls.upcasters[version]
    kept = [stored.get(field) for field in _KEPT]
    wrong, cause = "", None
    try:
        found = upcaster(stored)
    except Exception as error:  # noqa: BLE001  # whatever it is, the event is refused with it
        wrong, cause = f"failed with {error!r}", error
    else:
        if not isinstance(found, dict):
            wrong = f"returned no dict, but {shown(found)}"
        elif [found.get(field) for field in _KEPT] != kept:
            field, value = next(
                pair for pair in zip(_KEPT, kept, strict=True) if found.get(pair[0]) != pair[1]
            )
            wrong = (
                f"changed field {field!r}, which it must leave alone: "
                f"{shown(value)} became {shown(found.get(field))}"
            )
    if wrong:
        raise EventDecodeError(
            f"{cls.event_type} event {shown(kept[_KEPT.index('id')])}: upcaster "
            f"{upcaster.__qualname__} from version {version} to {version + 1} {wrong}"
        ) from cause
    found["v"] = version + 1
    return found
