"""JSON Lines: one object a line; numbers with a fraction or exponent become exact decimals."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

from .row_file import Row, RowFile, Unreadable
from .text_lines import MAX_LINE_BYTES, TextLines

__all__ = ["JsonLinesFile"]

#: Characters of a bad line that are kept.
_SHOWN_CHARS = 500


class JsonLinesFile(RowFile):
    """A JSON Lines file, plain or gzip, UTF-8.

    Raises:
      IngestError: It cannot be opened.
    """

    columns: Sequence[str] | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = TextLines(path)
        self._rows = self._all_rows()
        self.size_bytes = path.stat().st_size

    def rows(self, wanted: Collection[str]) -> Iterator[tuple[int, Row | Unreadable]]:
        """As `RowFile.rows`. A blank line is no row."""
        return self._rows

    def first_row_columns(self) -> Sequence[str]:
        """The keys of the first row that can be read; it is delivered by `rows` all the same."""
        looked_at: list[tuple[int, Row | Unreadable]] = []
        columns: Sequence[str] = ()
        for number, row in self._rows:
            looked_at.append((number, row))
            if not isinstance(row, Unreadable):
                columns = tuple(row)
                break
        self._rows = chain(looked_at, self._rows)
        return columns

    def fraction_read(self) -> float:
        """As `RowFile.fraction_read`."""
        return self._lines.bytes_read() / self.size_bytes if self.size_bytes else 1.0

    def close(self) -> None:
        """Closes the file."""
        self._lines.close()

    def _all_rows(self) -> Iterator[tuple[int, Row | Unreadable]]:
        for number, line in self._lines:
            if line is None:
                yield number, Unreadable(f"is longer than {MAX_LINE_BYTES:,} bytes", "")
            elif not line.isspace():
                yield number, _row(line)


def _row(line: bytes) -> Row | Unreadable:
    try:
        found = _decode(line.decode())
    except UnicodeDecodeError as error:
        return Unreadable(f"is not UTF-8 text at byte {error.start + 1}", _shown(line))
    except (ValueError, RecursionError) as error:
        return Unreadable(f"is no JSON: {error}", _shown(line))
    if isinstance(found, dict):
        return found
    return Unreadable(f"is JSON, but no object: {type(found).__name__}", _shown(line))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return made


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


_decode = json.JSONDecoder(
    parse_float=Decimal, parse_constant=_no_number, object_pairs_hook=_object
).decode


def _shown(line: bytes) -> str:
    return line[:_SHOWN_CHARS].decode(errors="backslashreplace").rstrip("\r\n")
