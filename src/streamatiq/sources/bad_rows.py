"""Writes every bad row as a line of JSON, so that nothing about it is lost."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from ..errors import IngestError
from .problem import BadRow

__all__ = ["BadRowFile"]


class BadRowFile:
    """A JSON Lines file of `{file, line or row, reason, content}`; replaced if it exists.

    Parameters:
      path: Where to write.
      inputs: Files that it must not replace.

    Raises:
      IngestError: It cannot be written, or is one of the inputs.
    """

    def __init__(self, path: Path, inputs: Iterable[Path]) -> None:
        self._path = path
        if path.exists() and any(path.samefile(one) for one in inputs if one.exists()):
            raise IngestError(f"{path}: is one of the inputs; bad rows need a file of their own")
        try:
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from None

    def write(self, row: BadRow) -> None:
        """Adds a row."""
        entry: dict[str, Any] = {
            "file": str(row.path),
            row.row_word: row.number,
            "reason": row.reason,
            "content": row.content,
        }
        try:
            self._file.write(json.dumps(entry, default=str, ensure_ascii=False) + "\n")
        except OSError as error:
            raise self._unwritable(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> IngestError:
        return IngestError(f"{self._path}: cannot be written: {error.strerror}")
