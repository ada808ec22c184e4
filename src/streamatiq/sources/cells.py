"""Cells to the values of event fields, exactly. What is None or empty text has no value."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeAlias

from .mapping import Cell
from .problem import BadCell
from .row_file import Row

__all__ = ["Getter", "text_of", "value_getter"]

#: From a row to a value; None where the cell is empty.
Getter: TypeAlias = Callable[[Row], Any]

#: Largest exponent that is written out, in decimal digits: an event refuses longer text anyway.
_MAX_EXPONENT: Final = 60


def value_getter(cell: Cell, field: str, *, allow_float: bool) -> Getter:
    """A function from a row to the value of a field; it raises `BadCell`.

    Parameters:
      cell: Where the value comes from.
      field: Name of the event's field, which decides how the cell is read.
      allow_float: Take binary floats by their shortest decimal text.
    """
    if cell.column is None:
        constant = _read(cell.constant, field, allow_float)
        return lambda row: constant
    column = cell.column
    if cell.values is not None:
        values = {text: _read(meant, field, allow_float) for text, meant in cell.values.items()}
        return lambda row: _looked_up(row.get(column), values, column)
    reader = _READERS.get(field, _number)

    def get(row: Row) -> Any:
        found = row.get(column)
        if found is None or found == "":
            return None
        try:
            return reader(found, allow_float)
        except BadCell as problem:
            raise BadCell(f"column {column!r} {problem}") from None

    return get


def text_of(cell: Any) -> str:
    """The text by which a mapping names a cell: true and false for booleans."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell)


def _read(text: str | None, field: str, allow_float: bool) -> Any:
    return _READERS.get(field, _number)(text, allow_float)


def _looked_up(cell: Any, values: dict[str, Any], column: str) -> Any:
    if cell is None or cell == "":
        return None
    try:
        return values[text_of(cell)]
    except KeyError:
        raise BadCell(
            f"column {column!r} is {text_of(cell)[:80]!r}, which the mapping does not know; "
            f"it knows {', '.join(values)}"
        ) from None


def _number(cell: Any, allow_float: bool) -> Any:
    """Plain text, or what the event itself will accept or refuse."""
    kind = type(cell)
    if kind is str:
        return _plain(cell) if "e" in cell or "E" in cell else cell
    if kind is Decimal:
        return _plain(str(cell))
    if kind is float:
        if not allow_float:
            raise BadCell("is a float, which may be inexact; set allow_float: true to take it")
        # NaN is how the usual writers of such files say that there is no value.
        return None if cell != cell else _plain(repr(cell))
    return cell


def _plain(text: str) -> str:
    """Decimal text without an exponent; other text as it is, for the event to refuse."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    if not number.is_finite() or abs(number.adjusted()) > _MAX_EXPONENT:
        return text
    return format(number, "f")


def _whole(cell: Any, _allow_float: bool) -> Any:
    """An int from an int or its digits."""
    if type(cell) is str:
        try:
            return int(cell)
        except ValueError:
            raise BadCell(f"is no whole number: {cell[:80]!r}") from None
    return cell


def _text(cell: Any, _allow_float: bool) -> str:
    """Text from text or an int."""
    if type(cell) is str:
        return cell
    if type(cell) is int:
        return str(cell)
    raise BadCell(f"is no text: {str(cell)[:80]!r} ({type(cell).__name__})")


_READERS: Final[dict[str, Callable[[Any, bool], Any]]] = {
    "update_id": _whole,
    "trade_id": _text,
    "aggressor": _text,
    "trade_kind": _text,
    "key": _text,
    "venue": _text,
    "symbol": _text,
}
