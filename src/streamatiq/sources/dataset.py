"""Names a file for the ids of its events, so that publishing it twice is recognised.

Without a name in the mapping, the file is known by its size, its first and its last bytes: the
same file under another name gives the same ids, another file of the same name does not.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import UUID, uuid5

from .row_file import unusable

__all__ = ["dataset_id"]

#: Root of all ids that are derived from files.
_ROOT: Final = UUID("5d0a8f35-9c86-4e0f-9b8e-2c6f3f0d6a11")
#: Bytes at each end of a file by which it is known.
END_BYTES: Final = 1 << 16


def dataset_id(path: Path, name: str | None) -> UUID:
    """The root of the ids of one file's events.

    Parameters:
      path: The file.
      name: Name of the dataset, in which the file is known by its own name (without folders);
        None goes by content.

    Raises:
      IngestError: The file cannot be read.
    """
    if name is not None:
        return uuid5(_ROOT, f"name\n{name}\n{path.name}")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            ends = sha256(file.read(END_BYTES))
            file.seek(max(size - END_BYTES, 0))
            ends.update(file.read(END_BYTES))
    except OSError as error:
        raise unusable(path, f"cannot be read: {error.strerror}") from None
    return uuid5(_ROOT, f"content\n{size}\n{ends.hexdigest()}")
