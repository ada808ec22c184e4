"""Pauses between attempts: doubling, jittered, bounded; and interruptible by a stop signal."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from ..errors import AuthenticationFailed, BrokerConnectionError

__all__ = ["Backoff"]

T = TypeVar("T")


class Backoff:
    """One run of growing pauses.

    Parameters:
      first_s: First pause, seconds.
      limit_s: Longest pause, seconds.
      rng: Source of jitter; default: the process's.
      wait: Waits that many seconds; returns True to stop trying.
    """

    def __init__(
        self,
        *,
        first_s: float,
        limit_s: float,
        rng: random.Random | None = None,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._next_s = first_s
        self._limit_s = limit_s
        # Most runs have no pause at all, and one is made for each call of a script.
        self._draw = random.random if rng is None else rng.random
        self._wait = wait

    def next_s(self) -> float:
        """The next pause, seconds: between half and the whole of the doubled base."""
        pause_s = min(self._next_s, self._limit_s)
        self._next_s = min(self._next_s * 2, self._limit_s)
        return pause_s * (0.5 + self._draw() / 2)

    def pause(self) -> bool:
        """Waits for the next pause; returns True when waiting was interrupted."""
        return (self._wait or threading.Event().wait)(self.next_s())

    def repeat(
        self,
        action: Callable[[], T],
        *,
        max_retries: int | None,
        before_retry: Callable[[], None],
        first_at_once: bool = False,
    ) -> T:
        """Runs `action` until it does not lose its connection, at most 1 + `max_retries` times.

        A refused password is not tried again.

        Parameters:
          before_retry: Called before each repetition.
          first_at_once: Repeat without a pause once: the connection had been idle, and may have
            been closed long ago.

        Raises:
          BrokerConnectionError: The last attempt's.
        """
        attempt = 0
        while True:
            try:
                return action()
            except AuthenticationFailed:
                raise
            except BrokerConnectionError:
                if max_retries is not None and attempt >= max_retries:
                    raise
                before_retry()
                attempt += 1
                if (attempt > 1 or not first_at_once) and self.pause():
                    raise
