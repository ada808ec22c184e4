"""Opens a file of rows by the format that its name or the caller says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from .csv_file import CsvFile
from .jsonl_file import JsonLinesFile
from .parquet_file import ParquetFile
from .row_file import RowFile, unusable

__all__ = ["FORMATS", "Format", "format_of", "open_rows"]

Format: TypeAlias = Literal["csv", "jsonl", "parquet"]
#: Formats that can be read.
FORMATS: Final[tuple[Format, ...]] = get_args(Format)

_SUFFIXES: Final[dict[str, Format]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def format_of(path: Path) -> Format:
    """The format that a file's name says; a last `.gz` is looked through.

    Raises:
      IngestError: The name says none.
    """
    suffix = Path(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix
    try:
        return _SUFFIXES[suffix.lower()]
    except KeyError:
        raise unusable(
            path,
            f"the name says no known format; known are {', '.join(_SUFFIXES)} "
            f"(.gz for text); or give --format {'|'.join(FORMATS)}",
        ) from None


def open_rows(
    path: Path,
    *,
    file_format: Format | None = None,
    delimiter: str | None = None,
    header: Sequence[str] | None = None,
) -> RowFile:
    """Opens a file of rows.

    Parameters:
      path: A regular file.
      file_format: Its format; None goes by the name.
      delimiter: Between the cells of CSV; None: a tab in `.tsv`, else a comma.
      header: Column names of a CSV file without a header line.

    Raises:
      IngestError: It is not there, is no regular file, or is not of the format.
    """
    if not path.exists():
        raise unusable(path, "there is no such file")
    if not path.is_file():
        raise unusable(path, "is not a regular file")
    match file_format or format_of(path):
        case "csv":
            tab = ".tsv" in (suffix.lower() for suffix in path.suffixes)
            return CsvFile(path, delimiter=delimiter or ("\t" if tab else ","), header=header)
        case "jsonl":
            return JsonLinesFile(path)
        case "parquet":
            return ParquetFile(path)
