"""Checks on an event class when it is declared: what would not survive the wire is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pydantic_core import CoreSchema

from ..errors import EventDefinitionError

if TYPE_CHECKING:
    from .event import Event

__all__ = ["check_definition", "require_on_the_wire"]


def check_definition(cls: type[Event]) -> None:
    """Refuse a class that is not frozen or strict, or whose fields would not round-trip.

    Raises:
      EventDefinitionError: With the class, the setting or field, and what to do.
    """
    for setting, wanted in (("frozen", True), ("extra", "forbid")):
        if cls.model_config.get(setting) != wanted:
            raise EventDefinitionError(
                f"{cls.__name__}: events are facts; model_config must keep {setting}={wanted!r}, "
                f"not {cls.model_config.get(setting)!r}"
            )
    for name, field in cls.model_fields.items():
        alias = field.alias or field.validation_alias or field.serialization_alias
        if alias is not None or field.exclude:
            raise EventDefinitionError(
                f"{cls.__name__}.{name}: the wire name of a field is its name, and every field is "
                f"on the wire; remove {'the alias' if alias is not None else 'exclude'}"
            )
    for name in cls.model_computed_fields:
        raise EventDefinitionError(
            f"{cls.__name__}.{name}: a computed field would be refused when the event is decoded; "
            "use a plain property"
        )


def require_on_the_wire(schema: CoreSchema, *names: str) -> CoreSchema:
    """Return a model's core schema in which these fields have no default."""
    model = cast("dict[str, Any]", schema)
    while model["type"] != "model-fields":
        model = model["schema"]
    for name in names:
        field = model["fields"][name]
        if field["schema"]["type"] == "default":
            field["schema"] = field["schema"]["schema"]
    return schema
