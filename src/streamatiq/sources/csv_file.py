"""CSV: one row a line, cells stay text.

Each line is parsed by itself. A quote that is not closed therefore costs its own line, not the
rest of the file; the price is that a cell cannot hold a line break.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from .row_file import Row, RowFile, Unreadable, unusable
from .text_lines import MAX_LINE_BYTES, TextLines

__all__ = ["CsvFile"]

#: Characters of a bad line that are kept.
_SHOWN_CHARS = 500


class _OneLine:
    """Hands the csv module one line and then reports the end of its input."""

    def __init__(self) -> None:
        self.text: str | None = None

    def __iter__(self) -> _OneLine:
        return self

    def __next__(self) -> str:
        if self.text is None:
            raise StopIteration
        text, self.text = self.text, None
        return text


class CsvFile(RowFile):
    """A CSV file, plain or gzip, UTF-8.

    Parameters:
      path: The file.
      delimiter: Between cells, one character.
      header: Names of the columns; None takes them from the first line.

    Raises:
      IngestError: It cannot be opened, or its header cannot be used.
    """

    def __init__(
        self, path: Path, *, delimiter: str = ",", header: Sequence[str] | None = None
    ) -> None:
        self.path = path
        self._lines = TextLines(path)
        self._numbered = iter(self._lines)
        self._feed = _OneLine()
        self._parser = csv.reader(
            self._feed, delimiter=delimiter, strict=True, skipinitialspace=True
        )
        try:
            self.size_bytes = path.stat().st_size
            self.columns: Sequence[str] = header if header is not None else self._header()
        except BaseException:
            self._lines.close()
            raise

    def _header(self) -> list[str]:
        number, line = next(self._numbered, (0, b""))
        if not number:
            raise unusable(self.path, "is empty; its first line should name the columns")
        names = Unreadable("is too long", "") if line is None else self._cells(line)
        if isinstance(names, Unreadable):
            raise unusable(self.path, f"line 1, which should name the columns, {names.reason}")
        names = [name.strip() for name in names]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice or not any(names):
            problem = f"names the column {twice[0]!r} twice" if twice else "names no columns"
            raise unusable(
                self.path,
                f"line 1 {problem}; if the file has no header line, list its columns in the "
                "mapping under csv.header",
            )
        return names

    def rows(self, wanted: Collection[str]) -> Iterator[tuple[int, Row | Unreadable]]:
        """As `RowFile.rows`. A blank line is no row."""
        columns = self.columns
        width = len(columns)
        for number, line in self._numbered:
            if line is None:
                yield number, Unreadable(f"is longer than {MAX_LINE_BYTES:,} bytes", "")
                continue
            cells = self._cells(line)
            if isinstance(cells, Unreadable):
                yield number, cells
            elif len(cells) == width:
                yield number, dict(zip(columns, cells, strict=True))
            elif cells:
                yield (
                    number,
                    Unreadable(f"has {len(cells)} cells for {width} columns", _shown(line)),
                )

    def _cells(self, line: bytes) -> list[str] | Unreadable:
        """The cells of one line; none for a blank line."""
        try:
            self._feed.text = line.decode()
            return next(self._parser)
        except UnicodeDecodeError as error:
            return Unreadable(f"is not UTF-8 text at byte {error.start + 1}", _shown(line))
        except csv.Error as error:
            unclosed = "unexpected end" in str(error)
            reason = "has a quote that is not closed" if unclosed else f"is no CSV: {error}"
            return Unreadable(reason, _shown(line))

    def fraction_read(self) -> float:
        """As `RowFile.fraction_read`."""
        return self._lines.bytes_read() / self.size_bytes if self.size_bytes else 1.0

    def first_row_columns(self) -> Sequence[str]:
        """The header."""
        return self.columns

    def close(self) -> None:
        """Closes the file."""
        self._lines.close()


def _shown(line: bytes) -> str:
    return line[:_SHOWN_CHARS].decode(errors="backslashreplace").rstrip("\r\n")
