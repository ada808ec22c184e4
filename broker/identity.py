"""Who this process is in its consumer groups.

A consumer's name is `host:pid:token`, chosen after a fork. A process that was declared dead while
it lived (it was stopped, or cut off, for too long) takes a new name and goes on: nothing that was
claimed under the old one can be committed any more.
"""

from __future__ import annotations

import os
import socket
import threading

from dramatiq.logging import get_logger

__all__ = ["Identity"]


class Identity:
    """The present consumer name. Thread-safe: `_lock` guards both attributes."""

    def __init__(self) -> None:
        self.logger = get_logger(__name__, type(self))
        self._lock = threading.Lock()
        self.consumer = self._new()
        self._lost: list[str] = []

    @staticmethod
    def _new() -> str:
        return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"

    def fenced(self, consumer: str) -> None:
        """`consumer`, the present name or one before it, is fenced: takes a new one."""
        with self._lock:
            if consumer not in self._lost:
                self._lost.append(consumer)
            if consumer == self.consumer:
                self.consumer = self._new()
                self.logger.warning(
                    "Consumer %s is fenced; going on as %s.", consumer, self.consumer
                )

    def take_lost(self) -> list[str]:
        """Names that were fenced since the last call: what was read under them since then, by a
        read that was under way, must be handed back."""
        with self._lock:
            lost, self._lost = self._lost, []
            return lost
