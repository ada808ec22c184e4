"""Ledgers: what handlers did, written down outside of Redis.

Each record is one write at the end of a file that was opened for appending. It is there when the
handler goes on, whoever dies afterwards, and a second arrival of the same thing is a second record.

    handled/SUBSCRIPTION.PID    16 bytes an event: its id, in the order of arrival
    venue.jsonl                 the venue's own book: a line an order that arrived, one an execution
    positions.jsonl             a line a fill that the portfolio has booked
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

__all__ = ["ID_BYTES", "LEDGERS", "POSITIONS", "VENUE_BOOK", "Arrivals", "Book"]

#: Environment variable with the folder of all ledgers.
LEDGERS = "E2E_LEDGERS"
#: File names within it.
HANDLED, VENUE_BOOK, POSITIONS = "handled", "venue.jsonl", "positions.jsonl"
#: Length of a record of an arrival.
ID_BYTES = 16


class _AppendOnly:
    """Threads and processes may append to one file at once: the kernel keeps records whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def append(self, record: bytes) -> None:
        if os.write(self._fd, record) != len(record):
            raise OSError(f"{self._path}: a record was written in part; is the disk full?")


class Arrivals:
    """Which event reached which subscription in this process.

    Parameters:
      folder: Of all ledgers.
      subscriptions: Their names.
    """

    def __init__(self, folder: Path, subscriptions: Iterable[str]) -> None:
        handled = folder / HANDLED
        handled.mkdir(exist_ok=True)
        self._files = {
            name: _AppendOnly(handled / f"{name}.{os.getpid()}") for name in subscriptions
        }

    def note(self, subscription: str, event_id: UUID) -> None:
        self._files[subscription].append(event_id.bytes)

    @staticmethod
    def read(folder: Path) -> dict[str, dict[int, list[bytes]]]:
        """Event ids by subscription and process."""
        found: dict[str, dict[int, list[bytes]]] = {}
        for path in sorted((folder / HANDLED).iterdir()):
            name, _, pid = path.name.rpartition(".")
            content = path.read_bytes()
            assert len(content) % ID_BYTES == 0, f"{path} ends within a record"
            found.setdefault(name, {})[int(pid)] = [
                content[at : at + ID_BYTES] for at in range(0, len(content), ID_BYTES)
            ]
        return found


class Book:
    """A file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self._file = _AppendOnly(path)

    def note(self, **what: Any) -> None:
        self._file.append(json.dumps(what, default=str).encode() + b"\n")

    @staticmethod
    def read(path: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_bytes().splitlines()]
