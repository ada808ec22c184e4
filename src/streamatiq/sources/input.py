"""The rows of one or more files as events, merged by recorded time.

The merge compares the heads of the files by (time, file, row), so that rows of one file keep
their order whatever their times say, and the result is the same on every run.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Self

from ..errors import IngestError
from ..events import MarketDataEvent
from .converter import Convert, compile_mapping
from .dataset import dataset_id
from .mapping import ColumnMapping, canonical_mapping
from .open_file import Format, open_rows
from .problem import BadCell, BadRow, Skipped
from .row_file import RowFile, Unreadable

__all__ = ["Input", "Read"]


class Read(NamedTuple):
    """One row; rows are ordered by the first three.

    Attributes:
      recorded_ns: Its recorded time in ns; for a row that is no event, that of the one before it.
      file: Place of the file among the inputs.
      number: Line or row in the file, from 1.
      outcome: What the row is.
    """

    recorded_ns: int
    file: int
    number: int
    outcome: MarketDataEvent | Skipped | BadRow


class Input:
    """Open files and how their rows become events; a context manager that closes the files.

    Parameters:
      paths: The files, in the order that decides between equal times.
      mapping: What their columns mean; None expects the names of the events' fields.
      file_format: Format of all of them; None goes by their names.

    Raises:
      IngestError: A file cannot be used, or the mapping does not fit it.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        mapping: ColumnMapping | None = None,
        *,
        file_format: Format | None = None,
    ) -> None:
        if not paths:
            raise IngestError("No file was given to read market data from.")
        if mapping and mapping.dataset and len({path.name for path in paths}) < len(paths):
            raise IngestError(
                f"Two of the files have the same name, by which dataset {mapping.dataset!r} tells "
                "them apart: their events would get the same ids. Rename one, or leave 'dataset' "
                f"out of {mapping.name}"
            )
        self._files: list[RowFile] = []
        self._converters: list[tuple[Convert, frozenset[str]]] = []
        with ExitStack() as stack:
            for path in paths:
                file = stack.enter_context(
                    open_rows(
                        path,
                        file_format=file_format,
                        delimiter=mapping.csv_delimiter if mapping else None,
                        header=mapping.csv_header if mapping else None,
                    )
                )
                meant = mapping or canonical_mapping(file.first_row_columns())
                dataset = None if meant.random_ids else dataset_id(path, meant.dataset)
                self._files.append(file)
                self._converters.append(compile_mapping(meant, file, dataset))
            self._open = stack.pop_all()

    def __iter__(self) -> Iterator[Read]:
        """Every row of every file; iterate it once.

        Raises:
          IngestError: A file is damaged.
        """
        streams = [self._rows_of(at) for at in range(len(self._files))]
        return streams[0] if len(streams) == 1 else heapq.merge(*streams)

    def fraction_read(self) -> float:
        """How much of the files was read, from 0 to 1."""
        size = sum(file.size_bytes for file in self._files)
        read = sum(file.fraction_read() * file.size_bytes for file in self._files)
        return read / size if size else 1.0

    def _rows_of(self, at: int) -> Iterator[Read]:
        file = self._files[at]
        convert, columns = self._converters[at]
        last_ns = 0
        for number, row in file.rows(columns):
            outcome: MarketDataEvent | Skipped | BadRow
            if isinstance(row, Unreadable):
                outcome = BadRow(file.path, number, file.row_word, row.reason, row.raw)
            else:
                try:
                    recorded_ns, outcome = convert(row, number)
                except BadCell as problem:
                    outcome = BadRow(file.path, number, file.row_word, str(problem), row)
                else:
                    last_ns = recorded_ns or last_ns
            yield Read(last_ns, at, number, outcome)

    def close(self) -> None:
        """Closes the files."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
