"""Parquet by pyarrow, an optional extra: record batches of the wanted columns only.

Timestamps, dates and times are delivered as ISO 8601 text with all their digits, since a Python
datetime ends at microseconds. Dictionary columns are looked up, not expanded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import IngestError
from .row_file import Row, RowFile, Unreadable, unusable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ParquetFile"]

#: Rows in memory at a time.
BATCH_ROWS = 4096
#: Read buffer per column, in bytes: without it a whole row group is read at once.
BUFFER_BYTES = 1 << 18


class ParquetFile(RowFile):
    """A Parquet file; its rows are numbered from 1.

    Raises:
      IngestError: pyarrow is not installed, or the file cannot be opened.
    """

    row_word: ClassVar[str] = "row"

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ModuleNotFoundError:
            raise IngestError(
                f"{path}: reading Parquet needs pyarrow; pip install 'streamatiq[ingest]'"
            ) from None
        self.path = path
        self._damage = (pa.ArrowException, OSError)
        try:
            self.size_bytes = path.stat().st_size
            self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER_BYTES)
        except self._damage as error:
            raise unusable(path, f"is no Parquet file that can be read: {_line(error)}") from None
        schema = self._file.schema_arrow
        self.columns: Sequence[str] = schema.names
        self.float_columns = frozenset(
            field.name for field in schema if pa.types.is_floating(field.type)
        )
        self._read = 0

    def rows(self, wanted: Collection[str]) -> Iterator[tuple[int, Row | Unreadable]]:
        """As `RowFile.rows`; only the wanted columns are read."""
        names = [name for name in self.columns if name in wanted]
        try:
            for batch in self._file.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
                columns = [_cells(column) for column in batch.columns]
                first = self._read + 1
                self._read += batch.num_rows
                for number, cells in enumerate(zip(*columns, strict=True), first):
                    yield number, dict(zip(names, cells, strict=True))
        except self._damage as error:
            raise unusable(
                self.path, f"is damaged after row {self._read:,}: {_line(error)}"
            ) from None

    def first_row_columns(self) -> Sequence[str]:
        """The columns of the schema."""
        return self.columns

    def fraction_read(self) -> float:
        """As `RowFile.fraction_read`."""
        return self._read / max(self._file.metadata.num_rows, 1)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _cells(column: pa.Array[Any]) -> list[Any]:
    import pyarrow as pa

    kind = column.type
    if isinstance(column, pa.DictionaryArray):
        entries = _cells(column.dictionary)
        return [None if at is None else entries[at] for at in column.indices.to_pylist()]
    if pa.types.is_temporal(kind):
        if isinstance(kind, pa.TimestampType) and kind.tz is not None:
            column = column.cast(pa.timestamp(kind.unit, "UTC"))
        column = column.cast(pa.string())
    return column.to_pylist()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
