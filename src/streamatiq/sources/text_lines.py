"""Lines of a text file as bytes, plain or gzip, with their numbers.

A line's length is bounded, so that a file without line ends cannot fill the memory: a longer line
is delivered as None and costs no more than itself.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from .row_file import unusable

__all__ = ["MAX_LINE_BYTES", "TextLines"]

#: Longest line that is read, in bytes.
MAX_LINE_BYTES = 1 << 20

_GZIP_MAGIC = b"\x1f\x8b"
_BOM_UTF8 = b"\xef\xbb\xbf"
#: How UTF-16 and UTF-32 files begin.
_BOMS_REFUSED = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


class TextLines:
    """The numbered lines of one file; iterate it once.

    Raises:
      IngestError: The file cannot be opened, its compression is damaged, or it is UTF-16.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = 0
        try:
            self._raw = path.open("rb")
            packed = self._raw.read(2) == _GZIP_MAGIC
            self._raw.seek(0)
        except OSError as error:
            raise unusable(path, f"cannot be read: {error.strerror}") from None
        self._stream: IO[bytes] = (
            cast("IO[bytes]", gzip.GzipFile(fileobj=self._raw)) if packed else self._raw
        )

    def __iter__(self) -> Iterator[tuple[int, bytes | None]]:
        """Numbers from 1 and lines with their line ends; None for a line that is too long."""
        readline = self._readline
        line = readline()
        if line.startswith(_BOMS_REFUSED):
            raise unusable(self._path, "is UTF-16 or UTF-32 text; convert it to UTF-8")
        line = line.removeprefix(_BOM_UTF8)
        while line:
            self._number += 1
            if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
                yield self._number, line
            else:
                while line and not line.endswith(b"\n"):
                    line = readline()
                yield self._number, None
            line = readline()

    def bytes_read(self) -> int:
        """Bytes of the file that were taken from it, compressed where it is."""
        return self._raw.tell()

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()
        self._raw.close()

    def _readline(self) -> bytes:
        try:
            return self._stream.readline(MAX_LINE_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise unusable(
                self._path,
                f"the gzip data is damaged or cut off after line {self._number}: {error}",
            ) from None
        except OSError as error:
            raise unusable(
                self._path, f"cannot be read after line {self._number}: {error.strerror}"
            ) from None
