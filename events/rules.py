"""The house rules on field types, applied to a class's core schema when the class is made.

| declared | rule |
|---|---|
| `Decimal` | plain text on the wire; Decimal, text or int in Python; never a float |
| `float` | refused: it cannot hold 0.1 |
| `Any` | refused: a Decimal in it would come back as text, and a float would slip through |
| `int`, `bool`, `str` | exactly that: no "1" for 1, no True for 1, no 1.0 for 1 |
| `datetime` | aware only |
| dates, times, spans | ISO 8601 text on the wire, never a number |
| nested classes | `Record` only: other models and dataclasses keep none of these rules |

The walk goes through containers, unions, defaults and validators of the class's own fields, and
stops at a nested `Record`, which has applied the rules to itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from pydantic_core import CoreSchema, core_schema

from ..errors import EventDefinitionError
from .decimals import plain_decimal

__all__ = ["Rules", "fields_of_schema"]

#: Keys of a core schema under which the schemas of a value's parts stand.
_PARTS: Final = (
    "schema",
    "items_schema",
    "keys_schema",
    "values_schema",
    "json_schema",
    "python_schema",
    "lax_schema",
    "strict_schema",
    "choices",
    "steps",
)
#: Types that are read as nothing but themselves.
_STRICT: Final = frozenset({"int", "bool", "str", "datetime", "date", "time", "timedelta"})
#: Types that an event cannot hold, and what to declare instead.
_REFUSED: Final = {
    "float": "float, which cannot hold 0.1: declare it Decimal or int",
    "complex": "complex, which is made of floats: declare it Decimal or int",
    "any": "Any, which would not come back as it was sent: declare what it holds",
    "dataclass": "a dataclass, which keeps no rules of events: derive it from Record",
    "typed-dict": "a TypedDict, which keeps no rules of events: derive it from Record",
}


def fields_of_schema(schema: CoreSchema) -> dict[str, Any]:
    """Return the fields in a model's core schema, from under the validators around them."""
    model = cast("dict[str, Any]", schema)
    while model["type"] != "model-fields":
        model = model["schema"]
    return cast("dict[str, Any]", model["fields"])


@dataclass(frozen=True, slots=True)
class Rules:
    """Applies the rules to the fields of one class.

    Parameters:
      owner: Name of the class, for messages.
      is_strict: Says whether a nested class keeps the rules.
      resolve: Returns the schema that a reference stands for; LookupError where it is not made yet.
    """

    owner: str
    is_strict: Callable[[type], bool]
    resolve: Callable[[CoreSchema], CoreSchema]

    def tighten(self, schema: CoreSchema) -> CoreSchema:
        """Return the class's core schema with the rules applied to its own fields.

        Raises:
          EventDefinitionError: A field is declared in a way that no event can hold.
        """
        for name, field in fields_of_schema(schema).items():
            field["schema"] = self._tightened(f"{self.owner}.{name}", field["schema"])
        return schema

    def _tightened(self, where: str, schema: Any) -> Any:
        """Return one part of a core schema with the rules applied, in place where it can be."""
        if isinstance(schema, list):
            return [self._tightened(where, item) for item in schema]
        if isinstance(schema, tuple):  # a choice of a union with its label
            return (self._tightened(where, schema[0]), *schema[1:])
        kind = schema.get("type")
        if not isinstance(kind, str):  # the choices of a tagged union, by tag
            return {tag: self._tightened(where, choice) for tag, choice in schema.items()}
        if kind in _REFUSED:
            raise EventDefinitionError(f"{where} is declared {_REFUSED[kind]}")
        if kind in ("model", "definition-ref"):
            self._check_nested(where, schema)
            return schema
        if kind == "decimal":
            plain = plain_decimal()
            return core_schema.chain_schema([plain, schema], serialization=plain["serialization"])
        if kind in _STRICT:
            schema["strict"] = True
        if kind == "datetime":
            schema["tz_constraint"] = "aware"
        for part in _PARTS:
            if isinstance(schema.get(part), dict | list):
                schema[part] = self._tightened(where, schema[part])
        return schema

    def _check_nested(self, where: str, schema: Any) -> None:
        """Refuse a class that keeps no rules; a named type of another kind, an enum, may pass."""
        if schema["type"] == "definition-ref":
            try:
                schema = self.resolve(schema)
            except LookupError:  # a class that holds itself: it is being made
                return
        while schema["type"].startswith("function-"):
            schema = schema["schema"]
        if schema["type"] in _REFUSED:
            raise EventDefinitionError(f"{where} is declared {_REFUSED[schema['type']]}")
        if schema["type"] == "model" and not self.is_strict(schema["cls"]):
            raise EventDefinitionError(
                f"{where} holds {schema['cls'].__name__}, which keeps no rules of events: "
                "derive it from Record"
            )
