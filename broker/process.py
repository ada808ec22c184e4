"""What one worker process runs for the broker: its identity, its intakes, its committer.

Made on the first `consume` in a process, so never inherited by a fork.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import Empty
from typing import Any

from dramatiq import Worker

from .committer import Committer
from .connections import Endpoint, RetryPolicy
from .consumer import hand_back
from .delivery import Delivery
from .identity import Identity
from .intake import Intake

__all__ = ["ConsumingProcess"]

#: Seconds that a stop waits for the server to take the last settlements.
FLUSH_S = 10.0


class ConsumingProcess:
    """The consuming side of a broker in this process. Thread-safe.

    `_lock` guards `_intakes`.
    """

    def __init__(self, endpoint: Endpoint, retry: RetryPolicy, *, window_ms: int) -> None:
        self.pid = os.getpid()
        self.identity = Identity()
        self.committer = Committer(
            endpoint, retry=retry, window_ms=window_ms, on_fenced=self.identity.fenced
        )
        self._lock = threading.Lock()
        self._intakes: dict[str, Intake] = {}

    def intake(self, name: str, make: Callable[[Identity], Intake]) -> Intake:
        """The intake of queue `name`; made at its first use and after a stop."""
        with self._lock:
            intake = self._intakes.get(name)
            if intake is None:
                intake = self._intakes[name] = make(self.identity)
            return intake

    def stop_reading(self, worker: Worker | None = None) -> None:
        """Stops all intakes and hands back, at once, all that no thread has begun to run."""
        with self._lock:
            intakes, self._intakes = self._intakes, {}
        left: list[tuple[Intake | None, list[Any]]] = [
            (intake, intake.stop()) for intake in intakes.values()
        ]
        if worker is not None:
            left += [(intakes.get(one.queue_name), [one]) for one in _drained(worker)]
        for intake, entries in left:
            hand_back(self.committer, intake, entries)

    def flush(self) -> None:
        """Waits until what was handled is settled, up to `FLUSH_S`."""
        self.committer.flush(FLUSH_S)

    def close(self) -> None:
        """Stops intakes and committer."""
        self.stop_reading()
        self.committer.close(FLUSH_S)


def _drained(worker: Worker) -> list[Delivery]:
    """Takes out of Dramatiq's work queue what no thread has taken yet."""
    drained = []
    while True:
        try:
            item = worker.work_queue.get_nowait()
        except Empty:
            return drained
        worker.work_queue.task_done()
        assert isinstance(item.message, Delivery)
        drained.append(item.message)
