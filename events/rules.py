"""The house rules on field types, applied to a class's core schema when the class is made.

| declared | rule |
|---|---|
| `Decimal` | plain text on the wire; Decimal, text or int in Python; never a float |
| `float` | cannot be declared: replay digests, prices and sizes need exact numbers |
| `int`, `bool`, `str` | exactly that: no "1" for 1, no True for 1, no 1.0 for 1 |
| `datetime` | aware only |

The walk goes through containers, unions, defaults and validators of the class's own fields. It
stops at nested classes: a nested `Record` has applied the rules to itself.
"""

from __future__ import annotations

from typing import Any, Final, cast

from pydantic_core import CoreSchema, core_schema

from ..errors import EventDefinitionError
from .decimals import plain_decimal

__all__ = ["tighten"]

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
_STRICT: Final = frozenset({"int", "bool", "str"})
#: Where the walk ends.
_NESTED: Final = frozenset({"model", "dataclass", "typed-dict", "definition-ref"})


def tighten(owner: str, schema: CoreSchema) -> CoreSchema:
    """Return a model's core schema with the house rules applied to its own fields.

    Parameters:
      owner: Name of the class, for messages.
      schema: What pydantic generated for it: the model, perhaps wrapped in validators.

    Raises:
      EventDefinitionError: A field is declared `float`.
    """
    model = cast("dict[str, Any]", schema)
    while model["type"] != "model-fields":
        model = model["schema"]
    for name, field in model["fields"].items():
        field["schema"] = _tightened(f"{owner}.{name}", field["schema"])
    return schema


def _tightened(where: str, schema: Any) -> Any:
    """Return a field's schema with the rules applied, in place where that is enough."""
    if isinstance(schema, list):
        return [_tightened(where, item) for item in schema]
    if isinstance(schema, tuple):
        return (_tightened(where, schema[0]), *schema[1:])
    if "type" not in schema:  # the choices of a tagged union, by tag
        return {tag: _tightened(where, choice) for tag, choice in schema.items()}
    kind = schema["type"]
    if kind == "float":
        raise EventDefinitionError(
            f"{where} is declared float, which cannot hold 0.1: declare it Decimal or int"
        )
    if kind == "decimal":
        plain = plain_decimal()
        return core_schema.chain_schema([plain, schema], serialization=plain["serialization"])
    if kind in _STRICT:
        schema["strict"] = True
    elif kind == "datetime":
        schema.update(strict=True, tz_constraint="aware")
    if kind not in _NESTED:
        for part in _PARTS:
            if isinstance(schema.get(part), dict | list):
                schema[part] = _tightened(where, schema[part])
    return schema
