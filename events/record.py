"""`Record`: the strict, frozen value that events and their parts are made of.

It tightens what pydantic would let pass: unknown fields, floats for decimals, `True` or "1" for an
int, naive datetimes. The rules are written into the core schema once, when the class is made, so
that a decode pays nothing for them. Bad values raise `InvalidEvent` from the constructor.
"""

from __future__ import annotations

from functools import partial
from operator import eq, is_
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema

from ..errors import EventError, InvalidEvent
from .problems import cause_of, describe
from .rules import Rules

__all__ = ["Record", "absent", "empty"]

_is_none: Final = partial(is_, None)


def absent() -> Any:
    """Return the default of an optional field: None, which is left out on the wire."""
    return Field(default=None, exclude_if=_is_none)


def empty(value: Any) -> Any:
    """Return the default of a field that is left out on the wire while it has that value."""
    return Field(default=value, exclude_if=partial(eq, value))


def _is_record(nested: type) -> bool:
    return issubclass(nested, Record)


class Record(BaseModel):
    """A frozen value with strict fields; a part of an event derives from it.

    Raises:
      InvalidEvent: The constructor got a bad, missing or unknown field; field and value are named.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64"
    )

    def __init__(self, /, **data: Any) -> None:
        try:
            self.__pydantic_validator__.validate_python(data, self_instance=self)
        except ValidationError as error:
            raise _refusal(type(self).__name__, error) from None

    # Tells pydantic that this __init__ does no more than its own: without the mark every decode
    # would go through Python's __init__ with keyword arguments instead of filling the object.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # pydantic's own mark

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        rules = Rules(cls.__name__, _is_record, handler.resolve_ref_schema)
        return rules.tighten(handler(source))


def _refusal(name: str, error: ValidationError) -> EventError:
    """Return what the constructor raises: an error of ours from a validator as it is."""
    cause = cause_of(error)
    return cause if isinstance(cause, EventError) else InvalidEvent(describe(name, error))
