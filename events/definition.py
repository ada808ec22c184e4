"""Checks on an event class when it is declared: what would not survive the wire is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from ..errors import EventDefinitionError
from .rules import fields_of_schema

if TYPE_CHECKING:
    from .event import Event

__all__ = ["check_definition", "refuse_instances", "require_on_the_wire"]


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
        if isinstance(field.default, float):
            raise EventDefinitionError(
                f"{cls.__name__}.{name}: the default {field.default!r} is a float; "
                f"write Decimal('{field.default!r}')"
            )
    for name in cls.model_computed_fields:
        raise EventDefinitionError(
            f"{cls.__name__}.{name}: a computed field would be refused when the event is decoded; "
            "use a plain property"
        )


def require_on_the_wire(schema: CoreSchema, *names: str) -> None:
    """Take the defaults of some fields out of a model's core schema."""
    fields = fields_of_schema(schema)
    for name in names:
        field = fields[name]
        if field["schema"]["type"] == "default":
            field["schema"] = field["schema"]["schema"]


def refuse_instances(schema: CoreSchema) -> CoreSchema:
    """Return the core schema of an abstract event, which nothing satisfies."""
    fields_of_schema(schema)["type"]["schema"] = core_schema.no_info_plain_validator_function(
        _refuse
    )
    return schema


def _refuse(_value: Any) -> Any:
    raise PydanticCustomError("abstract_event", "the event class is abstract")
