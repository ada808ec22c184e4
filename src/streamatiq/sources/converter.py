"""Compiles a column mapping into one function from a row to an event.

All decisions that do not depend on the row are taken once, here; what is left for a row is a look
into a few columns and the event's own validation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias
from uuid import UUID

from ..errors import IngestError, InvalidEvent
from ..events import MarketDataEvent, emit_id, instrument
from .cells import Getter, text_of, value_getter
from .mapping import KINDS, ColumnMapping, Kind, TimeCell
from .problem import BadCell, Skipped
from .row_file import Row, RowFile
from .times import time_reader

__all__ = ["Convert", "compile_mapping"]

#: From a row and its number to its recorded time in ns, and the event or why it is left out.
#: Raises `BadCell`.
Convert: TypeAlias = Callable[[Row, int], tuple[int, MarketDataEvent | Skipped]]

#: Instruments whose key is kept.
_KEYS_KEPT: Final = 4096

_instrument = lru_cache(_KEYS_KEPT)(instrument)


def compile_mapping(
    mapping: ColumnMapping, file: RowFile, dataset: UUID | None
) -> tuple[Convert, frozenset[str]]:
    """The function that converts the rows of a file, and the columns that it needs.

    Parameters:
      mapping: What the columns mean.
      file: Whose rows; its columns are checked.
      dataset: Ids are derived from it and the row's number; None makes fresh ids.

    Raises:
      IngestError: The mapping does not fit the file.
    """
    _check_columns(mapping, file)
    kind_of = _kind_getter(mapping)
    payloads = {kind: _payload_getter(mapping, kind) for kind in mapping.fields}
    key_of = _key_getter(mapping)
    event_time = _time_getter(mapping, mapping.ts_event)
    receive_time = _time_getter(mapping, mapping.ts_recv)
    pace = _time_getter(mapping, mapping.order) if mapping.order else None
    names = ", ".join(repr(time.column) for time in mapping.ts_event)
    only = list(mapping.only.items())
    source = mapping.source

    def convert(row: Row, number: int) -> tuple[int, MarketDataEvent | Skipped]:
        for column, wanted in only:
            text = text_of(row.get(column))
            if text not in wanted:
                return 0, Skipped(f"{column}={text[:80]}")
        kind = kind_of(row)
        if isinstance(kind, Skipped):
            return 0, kind
        ts_event = event_time(row)
        if ts_event is None:
            raise BadCell(f"has no event time: {names} empty")
        ts_recv = receive_time(row)
        fields: dict[str, Any] = {
            "ts_event": ts_event,
            "source": source,
            "key": key_of(row),
            "data": payloads[kind](row),
        }
        if ts_recv is not None:
            fields["ts_recv"] = ts_recv
        if dataset is not None:
            fields["id"] = emit_id(dataset, "row", number)
        try:
            event = MarketDataEvent(**fields)
        except InvalidEvent as error:
            raise BadCell(str(error)) from None
        recorded = pace(row) if pace is not None else ts_recv
        return (ts_event if recorded is None else recorded), event

    return convert, frozenset(column for column, _ in mapping.places())


def _check_columns(mapping: ColumnMapping, file: RowFile) -> None:
    if file.columns is not None:
        for column, place in mapping.places():
            if column not in file.columns:
                asked = (
                    f"which {place} asks for"
                    if place
                    else "and without --mapping FILE columns have the names of the events' fields"
                )
                raise IngestError(
                    f"{file.path}: has no column {column!r}, {asked}; "
                    f"it has {', '.join(file.columns)}"
                )
    floats = sorted(file.float_columns.intersection(column for column, _ in mapping.places()))
    if floats and not mapping.allow_float:
        raise IngestError(
            f"{file.path}: column {floats[0]!r} holds binary floats, which cannot say 0.1: prices "
            "would not be exact. Write the file with text or decimals, or set allow_float: true "
            "in the mapping to take each float by its shortest text"
        )


def _kind_getter(mapping: ColumnMapping) -> Callable[[Row], Kind | Skipped]:
    rule = mapping.kind
    if rule.always is not None:
        always = rule.always
        return lambda row: always
    column, kinds = rule.column, rule.kinds

    def kind_of(row: Row) -> Kind | Skipped:
        cell = row.get(column)
        if cell is None or cell == "":
            raise BadCell(f"column {column!r} is empty, and should tell the kind of row")
        text = text_of(cell)
        return kinds.get(text) or Skipped(f"{column}={text[:80]}")

    return kind_of


def _payload_getter(mapping: ColumnMapping, kind: Kind) -> Callable[[Row], dict[str, Any]]:
    getters = [
        (name, KINDS[kind][name], value_getter(cell, name, allow_float=mapping.allow_float), cell)
        for name, cell in mapping.fields[kind].items()
    ]

    def payload(row: Row) -> dict[str, Any]:
        fields: dict[str, Any] = {"kind": kind}
        for name, required, get, cell in getters:
            value = get(row)
            if value is not None:
                fields[name] = value
            elif required:
                raise BadCell(f"column {cell.column!r} is empty, and a {kind} needs {name}")
        return fields

    return payload


def _key_getter(mapping: ColumnMapping) -> Callable[[Row], str]:
    names = ("key",) if len(mapping.key) == 1 else ("venue", "symbol")
    parts: list[tuple[str, str | None, Getter]] = [
        (name, cell.column, value_getter(cell, name, allow_float=False))
        for name, cell in zip(names, mapping.key, strict=True)
    ]

    def key_of(row: Row) -> str:
        found = []
        for name, column, get in parts:
            value = get(row)
            if value is None:
                raise BadCell(f"column {column!r} is empty, and every event needs its {name}")
            found.append(value)
        if len(found) == 1:
            return str(found[0])
        try:
            return _instrument(*found)
        except InvalidEvent as error:
            raise BadCell(str(error)) from None

    return key_of


def _time_getter(mapping: ColumnMapping, times: Sequence[TimeCell]) -> Callable[[Row], int | None]:
    """A function to the time in the first of the columns that is not empty."""
    readers = [
        (
            time.column,
            time_reader(time.unit, assume_utc=mapping.assume_utc, allow_float=mapping.allow_float),
        )
        for time in times
    ]

    def get(row: Row) -> int | None:
        for column, read in readers:
            cell = row.get(column)
            if cell is not None and cell != "":
                try:
                    return read(cell)
                except BadCell as problem:
                    raise BadCell(f"column {column!r} {problem}") from None
        return None

    return get
