"""Where metrics stand: files of numbers in shared memory, one writer each.

The format is prometheus-client's for several processes: whatever reads that, reads these. They are
written here and not through its metric objects, because those take a lock and encode two numbers
for each increment; here an increment is one store of eight bytes at a known place.

A file begins with the number of bytes in use; then come entries: length of the key (4 bytes), key,
blanks up to a multiple of 8, value and time (8 bytes each). An entry counts once the number at the
beginning includes it, and the file gets its name once it is complete. So a process that is killed
at any point leaves a file that can be read, and its counts up to its last store.

Files are named by pid, start time and a number, so a process never goes on with the file of an
earlier one of the same pid, and what is left by dead processes is known.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import struct
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from dramatiq.logging import get_logger

__all__ = ["MetricFile", "is_alive", "process_id", "start_time"]

#: Bytes of a new file.
FIRST_SIZE = 1 << 14
_HEADER = 8
_numbers = itertools.count()


def _stat(pid: int) -> list[str]:
    """What the kernel tells of a process, from its state on; empty where that cannot be known."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    # The second field is the program's name and may hold anything, brackets too.
    return text.rpartition(")")[2].split()


def start_time(pid: int) -> int:
    """When a process began, in the kernel's ticks; 0 where that cannot be known."""
    stat = _stat(pid)
    return int(stat[19]) if stat else 0


def process_id(pid: int) -> str:
    """Names a process for good: pids come again."""
    return f"{pid}-{start_time(pid)}"


def is_alive(process: str) -> bool:
    """Whether a process lives, by the name that `process_id` gave it, or by its pid alone. One that
    has ended and that its parent has not asked about yet does not."""
    parts = process.split("-")
    if not parts[0].isdigit():
        return True  # none of ours: leave it
    pid = int(parts[0])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    stat = _stat(pid)
    if stat and stat[0] in "ZX":
        return False
    begun = int(stat[19]) if stat else 0
    return not (len(parts) > 1 and begun and parts[1] not in ("0", str(begun)))


class MetricFile:
    """Cells of one kind of metric of one process.

    One thread at a time may write to a cell; other threads may write to other cells. New cells may
    be asked for from any thread.

    Parameters:
      folder: An existing one.
      kind: `counter`, `histogram`, or `gauge_` with how processes are added up: `livesum`,
        `livemax`, `liveall` (for each process).

    Raises:
      OSError: The file cannot be made; there is no room for it, for example.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.logger = get_logger(__name__, type(self))
        self.path = folder / f"{kind}_{process_id(os.getpid())}-{next(_numbers)}.db"
        self._lock = threading.Lock()  # guards what follows, but for the cells' values
        self._places: dict[str, int] = {}
        self._used = _HEADER
        # Not *.db yet: readers take every file of that name.
        unfinished = self.path.with_suffix(".new")
        self._file = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._map(FIRST_SIZE)
            self._say_used()
            unfinished.rename(self.path)
        except BaseException:
            os.close(self._file)
            unfinished.unlink(missing_ok=True)
            raise

    def cell(self, metric: str, sample: str, help_text: str, labels: Mapping[str, str]) -> int:
        """The place in `cells` of one number; made, and 0, if it is new.

        Parameters:
          metric: Name of the metric.
          sample: Name of the number, `metric` with a suffix.
        """
        key = json.dumps([metric, sample, dict(labels), help_text], sort_keys=True)
        with self._lock:
            place = self._places.get(key)
            if place is None:
                place = self._places[key] = self._add(key.encode())
            return place

    def _add(self, key: bytes) -> int:
        padded = key + b" " * (8 - (len(key) + 4) % 8)
        entry = struct.pack(f"=i{len(padded)}sdd", len(key), padded, 0.0, 0.0)
        end = self._used + len(entry)
        if end > len(self._memory):
            self._grow(end)
        self._memory[self._used : end] = entry
        self._used = end
        self._say_used()
        return (end - 16) // 8

    def _grow(self, least: int) -> None:
        size = len(self._memory)
        while size < least:
            size *= 2
        try:
            self._map(size)
        except OSError as error:
            self.logger.error(
                "%s cannot grow: %s. The metrics of this process stay as they are from now on; "
                "make room there and restart the worker.",
                self.path,
                error,
            )
            old = self._memory
            self._use(mmap.mmap(-1, size))
            self._memory[: len(old)] = old[:]

    def _map(self, size: int) -> None:
        # Room is taken now: a store to a page that a full disk has no room for would be a SIGBUS.
        if sys.platform == "darwin":
            os.ftruncate(self._file, size)
        else:
            os.posix_fallocate(self._file, 0, size)
        self._use(mmap.mmap(self._file, size))

    def _use(self, memory: mmap.mmap) -> None:
        # Whoever still stores through an older view stores to the same pages of the file.
        self._memory = memory
        #: The numbers, by place.
        self.cells = memoryview(memory).cast("d")

    def _say_used(self) -> None:
        self._memory[0:4] = struct.pack("=i", self._used)

    def remove(self) -> None:
        """Takes the file away: its numbers hold for a living process only."""
        self.path.unlink(missing_ok=True)
        os.close(self._file)
