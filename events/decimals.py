"""Prices and quantities: `Decimal` in code, text on the wire, the same digits in both.

A float cannot say 0.1, and a JSON number is a float to most readers, so both are refused. The text
is plain (`-12.50`, `0.00000001`): no exponent, no plus sign, no leading zeros, so that each Decimal
has one text and trailing zeros ("0.10") survive the round trip. Each type is one regular expression
in pydantic-core followed by the C constructor of `Decimal`: decoding runs no Python code of ours.

Python code may pass a Decimal, such text, or an int.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Annotated, Any, Final

from pydantic import GetCoreSchemaHandler
from pydantic_core import (
    CoreSchema,
    PydanticCustomError,
    PydanticSerializationUnexpectedValue,
    core_schema,
)

__all__ = ["EXACT", "Price", "Quantity", "Size", "decimal_text", "plain_decimal", "read_quantity"]

#: Longest decimal text, in characters: room for 18 decimal places of any real amount.
MAX_DECIMAL_CHARS: Final = 48

#: Context for sums and differences of amounts: raises `decimal.Inexact` rather than round.
EXACT: Final = Context(prec=4 * MAX_DECIMAL_CHARS, traps=[Inexact, InvalidOperation])

#: Ints from here on have too long a text; huge ones cannot be made text at all.
_MAX_INT: Final = 10**MAX_DECIMAL_CHARS

_ANY: Final = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?$"
_NOT_NEGATIVE: Final = r"^(?:0|[1-9][0-9]*)(?:\.[0-9]+)?$"
_POSITIVE: Final = r"^(?:[1-9][0-9]*(?:\.[0-9]+)?|0\.[0-9]*[1-9][0-9]*)$"


def decimal_text(value: Decimal) -> str:
    """Return a decimal in plain notation with all its digits: never `1E-8`."""
    text = str(value)
    return format(value, "f") if "E" in text else text


def _serialized(value: Any) -> str:
    if not isinstance(value, Decimal):  # of a union: tells pydantic-core to try the next choice
        raise PydanticSerializationUnexpectedValue(f"Expected Decimal, got {type(value).__name__}")
    text = str(value)  # decimal_text, written out: every quote comes here four times
    return format(value, "f") if "E" in text else text


_HOW: Final = f'plain text such as "12.50", no exponent, at most {MAX_DECIMAL_CHARS} characters'
_WANTED_ANY: Final = f"give a finite Decimal ({_HOW})"
_WANTED_NOT_NEGATIVE: Final = f"give a Decimal of 0 or more ({_HOW})"
_WANTED_POSITIVE: Final = f"give a Decimal above 0 ({_HOW})"


def _reader(pattern: str, wanted: str) -> Callable[[Any], Decimal]:
    """Return the function that reads one Python value of this decimal type."""
    matches = re.compile(pattern).fullmatch

    def read(value: Any) -> Decimal:
        if isinstance(value, Decimal):
            text = str(value)
            # 0.00000001; NaN, infinity, 1E+9 and what would be endless zeros stay and fail.
            if "E-" in text and value.adjusted() > -MAX_DECIMAL_CHARS:
                text = format(value, "f")
        elif isinstance(value, str):
            text = value
        elif isinstance(value, int) and abs(value) < _MAX_INT and not isinstance(value, bool):
            text = str(value)
        else:
            text = ""
        if len(text) > MAX_DECIMAL_CHARS or not matches(text):
            raise PydanticCustomError("decimal", "{wanted}", {"wanted": wanted})
        return value if isinstance(value, Decimal) else Decimal(text)

    return read


def _guard(pattern: str, wanted: str) -> CoreSchema:
    """Return the schema of a decimal whose plain text matches a pattern.

    Parameters:
      pattern: Regular expression for the text, in the dialect of pydantic-core (no look-around).
      wanted: What to write instead, for the error message.
    """
    text = core_schema.str_schema(strict=True, pattern=pattern, max_length=MAX_DECIMAL_CHARS)
    return core_schema.json_or_python_schema(
        json_schema=core_schema.no_info_after_validator_function(
            Decimal,
            core_schema.custom_error_schema(text, "decimal", custom_error_message=wanted),
        ),
        python_schema=core_schema.no_info_plain_validator_function(_reader(pattern, wanted)),
        serialization=core_schema.plain_serializer_function_ser_schema(
            _serialized, return_schema=core_schema.str_schema(), when_used="json"
        ),
    )


def plain_decimal() -> CoreSchema:
    """Return the schema of any finite decimal in plain text, the rule for a bare `Decimal`."""
    return _guard(_ANY, _WANTED_ANY)


#: Reads one Python value as a quantity, or raises PydanticCustomError.
read_quantity: Final = _reader(_POSITIVE, _WANTED_POSITIVE)


class _DecimalSchema:
    def __init__(self, pattern: str, wanted: str) -> None:
        self._pattern = pattern
        self._wanted = wanted

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return _guard(self._pattern, self._wanted)


#: Any finite decimal. Negative ones too: futures have traded below zero.
Price = Annotated[Decimal, _DecimalSchema(_ANY, _WANTED_ANY)]
#: A decimal of 0 or more: a level of a quote may be empty.
Size = Annotated[Decimal, _DecimalSchema(_NOT_NEGATIVE, _WANTED_NOT_NEGATIVE)]
#: A decimal above 0: what is ordered, traded or filled.
Quantity = Annotated[Decimal, _DecimalSchema(_POSITIVE, _WANTED_POSITIVE)]
