"""Turn after turn, whatever happens to the server."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dramatiq.logging import get_logger

from ..broker.connections import RetryPolicy
from ..errors import BrokerConnectionError, BrokerError

__all__ = ["Persistence"]

#: Longest pause between attempts to reach the server, seconds.
RECONNECT_S = 0.5


class Persistence:
    """Repeats turns of a thread that must not end. For one thread at a time.

    Each trouble is said once, and once when it is over.

    Parameters:
      retry: First pause after a failure.
      on_turn: Called before each turn.
      on_failure: Called after a turn that failed: what may be broken is to be opened again.
    """

    def __init__(
        self, retry: RetryPolicy, *, on_turn: Callable[[], None], on_failure: Callable[[], None]
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self._retry = retry
        self._on_turn = on_turn
        self._on_failure = on_failure
        self._said = ""

    def __call__(
        self,
        turn: Callable[[], None],
        *,
        done: Callable[[], bool],
        wait: Callable[[float], bool],
    ) -> None:
        """Does turns until it is done. Raises nothing.

        Parameters:
          wait: Waits that many seconds, or until there is no reason to wait.
        """
        backoff = self._retry.backoff(wait=wait, limit_s=RECONNECT_S)
        while not done():
            self._on_turn()
            try:
                turn()
            except BrokerError as error:
                lost = isinstance(error, BrokerConnectionError)
                if str(error) != self._said:
                    level = logging.WARNING if lost else logging.ERROR
                    self.logger.log(level, "Scheduler: %s Trying on.", error)
                self._said = str(error)
                self._on_failure()
                backoff.pause()
            except Exception:
                # Without this thread nobody would lead: go on, and say so.
                self.logger.exception("Scheduler: a turn failed; trying on.")
                self._on_failure()
                backoff.pause()
            else:
                if self._said:
                    self.logger.warning("Scheduler: the server is back.")
                    self._said = ""
                backoff = self._retry.backoff(wait=wait, limit_s=RECONNECT_S)
