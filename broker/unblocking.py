"""Ends blocking reads of this process at a given time.

A server looks at the time-outs of blocked clients only when it is awake, and an idle one wakes ten
times a second: a read that is to end when something is due would end up to 100 ms late. So whoever
waits asks, at the due time and over another connection, that its read be ended.
"""

from __future__ import annotations

import threading

from dramatiq.logging import get_logger

from ..errors import BrokerConnectionError, BrokerError
from .connections import Endpoint, Link

__all__ = ["Unblocker"]


class Unblocker:
    """One connection for all readers of a process, opened at the first use. Thread-safe.

    `_lock` guards the link and `_may`.

    Parameters:
      endpoint: The server.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.logger = get_logger(__name__, type(self))
        self._lock = threading.Lock()
        self._link = Link(endpoint, timeout_s=1.0, name="streamatiq-unblocker")
        self._may = True

    def unblock(self, client_id: int) -> None:
        """Ends the blocking read of a connection, if it is in one.

        Raises nothing: where it fails, the read ends by its own time-out a little later.
        """
        with self._lock:
            if not self._may:
                return
            try:
                self._link.send("CLIENT", "UNBLOCK", client_id)
            except BrokerConnectionError as error:
                self._link.close()
                self.logger.debug("Cannot end a blocking read: %s", error)
            except BrokerError as error:
                self._may = False
                self.logger.info(
                    "Cannot end blocking reads (%s); what is due may be up to 0.1 s late.", error
                )

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._may = False
            self._link.close()
