"""Times in cells to nanoseconds since 1970 UTC, exactly: nothing is rounded."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Context, Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final

from ..events import to_ns
from .mapping import TimeUnit
from .problem import BadCell

__all__ = ["time_reader"]

#: Nanoseconds in a unit.
_NS: Final[dict[TimeUnit, int]] = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}

#: Longest text of a time that is a number, in characters.
_MAX_NUMBER_CHARS: Final = 40

#: Enough digits for any such number times any unit.
_EXACT: Final = Context(prec=4 * _MAX_NUMBER_CHARS)

_ISO: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?\s?(Z|z|[+-]\d\d:?(?:\d\d)?)?", re.ASCII
)


def time_reader(unit: TimeUnit, *, assume_utc: bool, allow_float: bool) -> Callable[[Any], int]:
    """A function from a cell that is not empty to ns since 1970 UTC; it raises `BadCell`.

    Parameters:
      unit: What a number counts, or `iso` for text such as `2024-08-08T23:54:13.937Z`.
      assume_utc: Take text without a zone as UTC.
      allow_float: Take a binary float by its shortest decimal text.
    """
    if unit == "iso":
        return lambda cell: _from_iso(cell, assume_utc)
    factor = _NS[unit]

    def read(cell: Any) -> int:
        kind = type(cell)
        if kind is int:
            return int(cell) * factor
        if kind is str:
            if cell.isdigit() and cell.isascii() and len(cell) < _MAX_NUMBER_CHARS:
                return int(cell) * factor
            return _from_fraction(cell, unit, factor)
        if kind is Decimal or (kind is float and allow_float):
            return _from_fraction(str(cell), unit, factor)
        if kind is float:
            raise BadCell("is a float, which may be inexact; set allow_float: true to take it")
        raise BadCell(f"is no number of {unit}: {cell!r}")

    return read


def _from_fraction(text: str, unit: TimeUnit, factor: int) -> int:
    try:
        # The bound keeps an exponent from making a number of a billion digits.
        number = Decimal(text) if len(text) < _MAX_NUMBER_CHARS else Decimal("nan")
        if not (number.is_finite() and abs(number.adjusted()) < _MAX_NUMBER_CHARS):
            raise InvalidOperation
    except InvalidOperation:
        raise BadCell(f"is no number of {unit}: {text[:80]!r}") from None
    ns = _EXACT.multiply(number, Decimal(factor))
    whole = int(ns)
    if ns != whole:
        raise BadCell(f"has a fraction of a nanosecond: {text!r} {unit}")
    return whole


def _from_iso(cell: Any, assume_utc: bool) -> int:
    found = _ISO.fullmatch(cell) if isinstance(cell, str) else None
    if found is None:
        raise BadCell(
            f"is no ISO 8601 time: {str(cell)[:80]!r}; it should be like 2024-08-08T23:54:13.937Z"
        )
    seconds, fraction, zone = found.groups()
    if zone is None and not assume_utc:
        raise BadCell(f"has no time zone: {cell!r}; if such times are UTC, set assume_utc: true")
    return _second_ns(seconds, zone or "Z") + int((fraction or "").ljust(9, "0"))


@lru_cache(maxsize=1024)
def _second_ns(seconds: str, zone: str) -> int:
    try:
        moment = datetime.fromisoformat(f"{seconds}{zone.upper()}")
    except ValueError as error:
        raise BadCell(f"is no time: {seconds}{zone}: {error}") from None
    return to_ns(moment.astimezone(UTC))
