"""`ColumnMapping`: which column of a file means which field of a market data event.

It is read from YAML (`mapping_file`) or made for files whose columns have the events' own names
(`canonical_mapping`), and compiled into a function by `converter`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

__all__ = [
    "KINDS",
    "OPTIONAL_FIELDS",
    "Cell",
    "ColumnMapping",
    "Kind",
    "KindRule",
    "TimeCell",
    "TimeUnit",
    "canonical_mapping",
]

Kind: TypeAlias = Literal["quote", "trade"]
TimeUnit: TypeAlias = Literal["ns", "us", "ms", "s", "iso"]

#: Fields of each kind of row; True where the field must have a value.
KINDS: Final[Mapping[Kind, Mapping[str, bool]]] = {
    "quote": {
        "bid_px": True,
        "bid_sz": True,
        "ask_px": True,
        "ask_sz": True,
        "update_id": False,
    },
    "trade": {
        "price": True,
        "size": True,
        "trade_id": False,
        "aggressor": False,
        "trade_kind": False,
    },
}
#: Fields that may be left out of a mapping.
OPTIONAL_FIELDS: Final = frozenset(
    name for fields in KINDS.values() for name, required in fields.items() if not required
)


@dataclass(frozen=True, slots=True)
class Cell:
    """Where a value comes from.

    Attributes:
      column: The column; None where it is constant.
      constant: The value of every row.
      values: What each text of the column means; None takes the cell as it is.
      place: Where the mapping says so, `file:line`.
    """

    column: str | None = None
    constant: str | None = None
    values: Mapping[str, str] | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class TimeCell:
    """A column that holds a time.

    Attributes:
      column: The column.
      unit: `iso` for ISO 8601 text, else what a number since 1970 UTC counts.
      place: Where the mapping says so, `file:line`.
    """

    column: str
    unit: TimeUnit
    place: str = ""


@dataclass(frozen=True, slots=True)
class KindRule:
    """Which rows are quotes and which are trades; others are skipped and counted.

    Attributes:
      always: Every row is of this kind; then the rest is not used.
      column: Column whose text tells the kind.
      kinds: What its texts mean.
      place: Where the mapping says so, `file:line`.
    """

    always: Kind | None = None
    column: str = ""
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    place: str = ""

    @property
    def used(self) -> frozenset[Kind]:
        """The kinds that can come up."""
        return frozenset((self.always,)) if self.always else frozenset(self.kinds.values())


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """All of it.

    Attributes:
      name: The mapping's file, for messages.
      kind: Which rows are what.
      key: Either one cell that holds `VENUE:SYMBOL`, or two: venue and symbol.
      ts_event: Columns for the event time; the first that is not empty counts.
      ts_recv: Columns for the receive time; may be empty.
      order: Columns of the recorded pace; empty: as `ts_recv`, then `ts_event`.
      fields: Cells of the fields of each kind.
      only: Column and the texts that are let through; other rows are skipped and counted.
      source: `source` of every event.
      dataset: Name under which ids are derived; None derives it from the file's content.
      random_ids: Ids are fresh, so that publishing the file again is not recognised.
      assume_utc: Times without a zone are UTC; otherwise they are refused.
      allow_float: Binary floats are taken by their shortest decimal text; otherwise refused.
      csv_delimiter: See `open_rows`.
      csv_header: See `open_rows`.
    """

    name: str
    kind: KindRule
    key: Sequence[Cell]
    ts_event: Sequence[TimeCell]
    ts_recv: Sequence[TimeCell]
    fields: Mapping[Kind, Mapping[str, Cell]]
    order: Sequence[TimeCell] = ()
    only: Mapping[str, frozenset[str]] = field(default_factory=dict)
    source: str = ""
    dataset: str | None = None
    random_ids: bool = False
    assume_utc: bool = False
    allow_float: bool = False
    csv_delimiter: str | None = None
    csv_header: Sequence[str] | None = None

    @property
    def pace(self) -> Sequence[TimeCell]:
        """Columns of the recorded pace and of the order in a merge."""
        return self.order or (*self.ts_recv, *self.ts_event)

    def places(self) -> Iterator[tuple[str, str]]:
        """Every column that is used, and where the mapping names it."""
        if not self.kind.always:
            yield self.kind.column, self.kind.place
        for cell in (*self.key, *(c for cells in self.fields.values() for c in cells.values())):
            if cell.column is not None:
                yield cell.column, cell.place
        for time in (*self.ts_event, *self.ts_recv, *self.order):
            yield time.column, time.place
        for column in self.only:
            yield column, self.name


def canonical_mapping(columns: Sequence[str]) -> ColumnMapping:
    """The mapping of a file whose columns have the names of the events' fields.

    `kind` says quote or trade (without it, the columns of prices do); `key` holds VENUE:SYMBOL, or
    `venue` and `symbol` its parts; `ts_event` and `ts_recv` count ns since 1970 UTC.

    Parameters:
      columns: What the file has; optional fields without a column are left out.
    """
    kinds: dict[str, Kind] = {"quote": "quote", "trade": "trade"}
    always: Kind = "quote" if "bid_px" in columns or "price" not in columns else "trade"
    rule = KindRule(column="kind", kinds=kinds) if "kind" in columns else KindRule(always=always)
    key = ("key",) if "key" in columns else ("venue", "symbol")
    return ColumnMapping(
        name="no mapping given",
        kind=rule,
        key=[Cell(column=name) for name in key],
        ts_event=[TimeCell("ts_event", "ns")],
        ts_recv=[TimeCell("ts_recv", "ns")] if "ts_recv" in columns else [],
        fields={
            kind: {
                name: Cell(column=name)
                for name, required in KINDS[kind].items()
                if required or name in columns
            }
            for kind in sorted(rule.used)
        },
    )
