"""Which class stands for which type name, in this process.

A class enters when its class statement runs, so a decoder knows what has been imported and no
more. Running the same statement again (a module reload) replaces the class; another class of the
same type name is an error, because it would make one log hold two kinds of events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import EventDefinitionError, UnknownEventType

if TYPE_CHECKING:
    from .event import Event

__all__ = ["event_class", "known_class", "register", "registered_types"]

_classes: dict[str, type[Event]] = {}


def register(cls: type[Event]) -> None:
    """Enter a concrete event class under its type name.

    Raises:
      EventDefinitionError: The name belongs to another class.
    """
    known = _classes.get(cls.event_type)
    if known is not None and _name(known) != _name(cls):
        raise EventDefinitionError(
            f"Two classes claim the event type {cls.event_type!r}: {_name(known)} and "
            f"{_name(cls)}; give one of them another type name"
        )
    _classes[cls.event_type] = cls


def event_class(type_name: str) -> type[Event]:
    """Return the class registered under a type name.

    Raises:
      UnknownEventType: No class is; the message lists the known names.
    """
    try:
        return _classes[type_name]
    except KeyError:
        known = ", ".join(registered_types()) or "none"
        raise UnknownEventType(
            f"No event class is registered as {type_name[:80]!r}; known types: {known}. "
            "Import the module that defines it"
        ) from None


def known_class(type_name: str) -> type[Event] | None:
    """Return the class registered under a type name, or None."""
    return _classes.get(type_name)


def registered_types() -> tuple[str, ...]:
    """Return the names of all registered event types, sorted."""
    return tuple(sorted(_classes))


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
