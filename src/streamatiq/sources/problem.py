"""What is wrong with one row: it is counted and reported, and the next row is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["BadCell", "BadRow", "Skipped"]


class BadCell(Exception):
    """A cell, or a row, cannot become (part of) an event; says why."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is no event.

    Attributes:
      path: The file.
      number: Line or row in it, from 1.
      row_word: What `number` counts: `line` or `row`.
      reason: What is wrong.
      content: The cells, or the raw text where it could not be read.
    """

    path: Path
    number: int
    row_word: str
    reason: str
    content: Any

    def __str__(self) -> str:
        return f"{self.path}, {self.row_word} {self.number}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that the mapping leaves out.

    Attributes:
      reason: By which column and value.
    """

    reason: str
