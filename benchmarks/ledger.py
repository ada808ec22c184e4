"""A ledger in shared memory: which message ran, how often, when, and in which process.

One file, mapped by the bench, by the producer and by every worker process. Message `n` has its own
cells, so a handler writes without a lock and without a system call: three stores of about 40 ns
each. Nothing is flushed at exit; a worker that is killed leaves behind all it has noted.

    header      capacity, number of worker processes that registered
    pids        their process ids, in order of their first message
    scheduled   ns each: when message n was due to be sent (paced load only)
    sent        ns each: when the producer began to send it
    handled     ns each: when its handler started (the first time)
    done        ns each: when its handler ended (the first time); only handlers with work note it
    runs        a byte each: how often its handler started
    worker      a byte each: index into pids of the process that ran it first

All times are CLOCK_MONOTONIC, which on one machine is the same clock in every process.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import time
from pathlib import Path

__all__ = ["Ledger", "Recorder"]

#: Worker processes that a ledger has room for.
_MAX_WORKERS = 64

#: Bytes of the header: capacity, registered workers.
_HEADER = 16

#: Bytes of one message's cells.
_CELLS = 34


class Ledger:
    """The mapped file; see the module for its layout.

    Attributes:
        capacity: number of messages it has cells for.
        scheduled, sent, handled, done: writable views, nanoseconds by message number; 0 is
            "not yet".
        runs, worker: writable views, one byte by message number.
    """

    def __init__(self, path: Path) -> None:
        """Map the ledger that `create` made at `path`."""
        self._file = path.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), 0)
        whole = memoryview(self._map)
        self._header = whole[:_HEADER].cast("q")
        self.capacity = n = self._header[0]
        offset = _HEADER
        self._pids = whole[offset : offset + 8 * _MAX_WORKERS].cast("q")
        offset += 8 * _MAX_WORKERS
        self.scheduled = whole[offset : offset + 8 * n].cast("q")
        self.sent = whole[offset + 8 * n : offset + 16 * n].cast("q")
        self.handled = whole[offset + 16 * n : offset + 24 * n].cast("q")
        self.done = whole[offset + 24 * n : offset + 32 * n].cast("q")
        self.runs = whole[offset + 32 * n : offset + 33 * n]
        self.worker = whole[offset + 33 * n : offset + 34 * n]

    @classmethod
    def create(cls, path: Path, capacity: int) -> Ledger:
        """Make a new, empty ledger for `capacity` messages at `path`."""
        with path.open("wb") as file:
            file.truncate(_HEADER + 8 * _MAX_WORKERS + _CELLS * capacity)
            file.write(capacity.to_bytes(8, "little"))
        return cls(path)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that have handled something."""
        return list(self._pids[: self._header[1]])

    def register(self) -> int:
        """Take a row in `pids` for this process and return its index.

        Raises:
            RuntimeError: more processes register than there are rows.
        """
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            index = self._header[1]
            if index >= _MAX_WORKERS:
                raise RuntimeError(f"the ledger has room for {_MAX_WORKERS} worker processes")
            self._pids[index] = os.getpid()
            self._header[1] = index + 1
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        return index

    def handled_count(self, first: int, last: int) -> int:
        """Count the messages from number `first` up to, not including, `last` that ran at all."""
        return (last - first) - bytes(self.runs[first:last]).count(0)

    def duplicate_count(self, first: int, last: int) -> int:
        """Count the messages from `first` up to `last` that ran more than once."""
        cells = bytes(self.runs[first:last])
        return len(cells) - cells.count(0) - cells.count(1)

    def close(self) -> None:
        """Unmap the file; the views must not be used any more."""
        for view in (
            self.scheduled,
            self.sent,
            self.handled,
            self.done,
            self.runs,
            self.worker,
        ):
            view.release()
        self._pids.release()
        self._header.release()
        self._file.close()


class Recorder:
    """What a handler calls, once a message, from any thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._handled = ledger.handled
        self._done = ledger.done
        self._runs = ledger.runs
        self._worker = ledger.worker
        self._index: int | None = None
        self._registering = threading.Lock()

    def __call__(self, number: int) -> None:
        """Note that the handler of message `number` starts now."""
        now = time.monotonic_ns()
        index = self._index
        if index is None:
            index = self._register()
        if not self._runs[number]:
            self._handled[number] = now
            self._worker[number] = index
        self._runs[number] += 1

    def ended(self, number: int) -> None:
        """Note that the handler of message `number` ends now."""
        if not self._done[number]:
            self._done[number] = time.monotonic_ns()

    def _register(self) -> int:
        with self._registering:
            if self._index is None:
                self._index = self._ledger.register()
            return self._index
