"""`RowFile`: a file of rows that is read once, from front to back, never whole in memory.

A row is a mapping from column names to cells as the format delivers them: text from CSV; text,
int, bool, `Decimal` or None from JSON; Python values from Parquet. What a cell means is the column
mapping's business. A row that can be told apart but not read is delivered as `Unreadable`, so that
it is counted; damage beyond which rows cannot be told apart raises `IngestError`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias

from ..errors import IngestError

__all__ = ["Row", "RowFile", "Unreadable", "unusable"]

#: Column names to cells.
Row: TypeAlias = Mapping[str, Any]


class Unreadable(NamedTuple):
    """A row that cannot be read.

    Attributes:
      reason: What is wrong with it.
      raw: What stands there, shortened.
    """

    reason: str
    raw: str


class RowFile(ABC):
    """An open file of rows; a context manager that closes it."""

    #: What the numbers of rows count: lines of the file, or rows.
    row_word: ClassVar[str] = "line"

    path: Path
    #: Size of the file in bytes.
    size_bytes: int
    #: Columns of every row; None where each row names its own.
    columns: Sequence[str] | None
    #: Columns of binary floating point, in which prices are not exact.
    float_columns: frozenset[str] = frozenset()

    @abstractmethod
    def rows(self, wanted: Collection[str]) -> Iterator[tuple[int, Row | Unreadable]]:
        """Number (from 1) and content of each row, in the order of the file. Call it once.

        Parameters:
          wanted: Columns that are needed; a row may hold others too.

        Raises:
          IngestError: The file is damaged in a way that hides where rows begin and end.
        """

    @abstractmethod
    def fraction_read(self) -> float:
        """How much of the file was read, from 0 to 1."""

    @abstractmethod
    def first_row_columns(self) -> Sequence[str]:
        """The columns, taken from the first readable row where the format fixes none."""

    @abstractmethod
    def close(self) -> None:
        """Closes the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def unusable(path: Path, problem: str) -> IngestError:
    """The error of a file that cannot be read (on)."""
    return IngestError(f"{path}: {problem}")
