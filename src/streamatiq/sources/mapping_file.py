"""Reads a column mapping from YAML; `docs/ingest.md` describes the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, cast, get_args

from .mapping import KINDS, OPTIONAL_FIELDS, Cell, ColumnMapping, Kind, KindRule, TimeCell, TimeUnit
from .mapping_nodes import Branch, read_yaml

__all__ = ["read_mapping"]

_KEYS: Final = (
    "version",
    "dataset",
    "ids",
    "source",
    "kind",
    "only",
    "key",
    "time",
    "quote",
    "trade",
    "assume_utc",
    "allow_float",
    "csv",
)
_UNITS: Final[tuple[TimeUnit, ...]] = get_args(TimeUnit)
_KIND_NAMES: Final = cast("tuple[Kind, ...]", tuple(KINDS))


def read_mapping(path: Path) -> ColumnMapping:
    """The mapping that a YAML file holds.

    Raises:
      IngestError: It cannot be read, a key is unknown, missing or double, or a value is not of the
        kind that its key wants; with file and line.
    """
    root = read_yaml(path)
    top = root.entries(allowed=_KEYS, required=("version", "kind", "key", "time"))
    top["version"].one_of(("1",))
    kind = _kind(top["kind"])
    for name in _KIND_NAMES:
        if name in kind.used and name not in top:
            raise root.wrong(f"lacks the key {name!r}, though 'kind' says that there are such rows")
        if name not in kind.used and name in top:
            raise top[name].wrong("is of no use: 'kind' says that there are no such rows")
    time = top["time"].entries(allowed=("ts_event", "ts_recv", "order"), required=("ts_event",))
    csv = top["csv"].entries(allowed=("delimiter", "header")) if "csv" in top else {}
    return ColumnMapping(
        name=str(path),
        kind=kind,
        key=_key(top["key"]),
        ts_event=_times(time, "ts_event"),
        ts_recv=_times(time, "ts_recv"),
        order=_times(time, "order"),
        fields={name: _fields(name, top[name]) for name in _KIND_NAMES if name in kind.used},
        only=_only(top["only"]) if "only" in top else {},
        source=top["source"].text() if "source" in top else "",
        dataset=top["dataset"].text() if "dataset" in top else None,
        random_ids="ids" in top and top["ids"].one_of(("deterministic", "random")) == "random",
        assume_utc="assume_utc" in top and top["assume_utc"].flag(),
        allow_float="allow_float" in top and top["allow_float"].flag(),
        csv_delimiter=_delimiter(csv["delimiter"]) if "delimiter" in csv else None,
        csv_header=_header(csv["header"]) if "header" in csv else None,
    )


def _kind(branch: Branch) -> KindRule:
    if branch.is_text:
        return KindRule(always=branch.one_of(_KIND_NAMES), place=branch.place)
    entries = branch.entries(allowed=("column", *_KIND_NAMES), required=("column",))
    kinds: dict[str, Kind] = {}
    for name in _KIND_NAMES:
        for text in entries[name].texts() if name in entries else ():
            if text in kinds:
                raise entries[name].wrong(f"has {text!r}, which stands there already")
            kinds[text] = name
    if not kinds:
        raise branch.wrong("says which rows are neither 'quote' nor 'trade'")
    return KindRule(column=entries["column"].text(), kinds=kinds, place=branch.place)


def _key(branch: Branch) -> Sequence[Cell]:
    if branch.is_text:
        return [Cell(column=branch.text(), place=branch.place)]
    parts = ("venue", "symbol")
    entries = branch.entries(allowed=parts, required=parts)
    return [_cell(entries[part]) for part in parts]


def _cell(branch: Branch) -> Cell:
    if branch.is_text:
        return Cell(column=branch.text(), place=branch.place)
    entries = branch.entries(allowed=("column", "constant", "values"))
    if ("column" in entries) == ("constant" in entries):
        raise branch.wrong("must have either 'column' or 'constant'")
    if "constant" in entries:
        if "values" in entries:
            raise entries["values"].wrong("is of no use beside 'constant'")
        return Cell(constant=entries["constant"].text(), place=branch.place)
    values: Mapping[str, str] | None = None
    if "values" in entries:
        values = {key: item.text() for key, item in entries["values"].entries().items()}
        if not values:
            raise entries["values"].wrong("must not be empty")
    return Cell(column=entries["column"].text(), values=values, place=branch.place)


def _fields(kind: Kind, branch: Branch) -> Mapping[str, Cell]:
    names = tuple(KINDS[kind])
    required = tuple(name for name in names if name not in OPTIONAL_FIELDS)
    entries = branch.entries(allowed=names, required=required)
    return {name: _cell(entries[name]) for name in entries}


def _times(entries: Mapping[str, Branch], name: str) -> Sequence[TimeCell]:
    if name not in entries:
        return ()
    branch = entries[name]
    return [_time(item) for item in (branch.items() if branch.is_list else [branch])]


def _time(branch: Branch) -> TimeCell:
    names = ("column", "unit")
    entries = branch.entries(allowed=names, required=names)
    return TimeCell(entries["column"].text(), entries["unit"].one_of(_UNITS), branch.place)


def _only(branch: Branch) -> Mapping[str, frozenset[str]]:
    return {column: frozenset(item.texts()) for column, item in branch.entries().items()}


def _delimiter(branch: Branch) -> str:
    text = branch.text()
    if text in ("tab", "\\t"):
        return "\t"
    if len(text) != 1 or text in '"\r\n ':
        raise branch.wrong(f"is {text!r}; it must be one character, or 'tab'")
    return text


def _header(branch: Branch) -> Sequence[str]:
    names = branch.texts()
    for at, name in enumerate(names):
        if name in names[:at]:
            raise branch.wrong(f"names the column {name!r} twice")
    return names
