"""Who connects, told to the reclaimer at once: a process that dies young is watched by then.

The reclaimer learns of everybody with its own heartbeats. Between two of them it keeps a blocking
read of the stream of arrivals under way, on a connection of its own: that costs no command a
second, and the thread goes on meanwhile, since it waits for the reply among other things.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from redis.connection import AbstractConnection

from ..errors import BrokerError
from .connections import Endpoint
from .faults import translated
from .keys import MemberKeys

__all__ = ["Arrivals"]

#: Longest wait of one read, ms.
BLOCK_MS = 10_000
#: Seconds beyond that after which the connection counts as lost.
MARGIN_S = 5.0


class Arrivals:
    """One blocking read that is under way, or not. Not thread-safe: the heartbeat thread's.

    Parameters:
      members: Where arrivals are recorded.
      endpoint: The server.
    """

    def __init__(self, members: MemberKeys, endpoint: Endpoint) -> None:
        self._key = members.arrivals
        self._endpoint = endpoint
        self._connection: AbstractConnection | None = None
        self._asked_at: float | None = None
        self._last = ""

    def follow(self, now_ms: int) -> None:
        """Sees to it that a read is under way: of what comes from `now_ms` on, or after the last.

        Parameters:
          now_ms: The server's clock at a moment when everybody was known.

        Raises:
          BrokerError: The server cannot be reached or refused.
        """
        now = time.monotonic()
        if self._asked_at is not None:
            if now - self._asked_at < BLOCK_MS / 1000 + MARGIN_S:
                return
            self.close()  # it hangs
        if self._connection is None:
            self._last = f"{now_ms - 1}-0"  # an arrival of this very millisecond counts
        with translated(self._endpoint.shown, ("XREAD",)):
            if self._connection is None:
                self._connection = self._endpoint.connection(name="streamatiq-arrivals")
                self._connection.connect()
            self._connection.send_command(
                "XREAD", "BLOCK", BLOCK_MS, "STREAMS", self._key, self._last
            )
        self._asked_at = now

    def socket(self) -> socket.socket | None:
        """What becomes readable when somebody arrives; None while no read is under way."""
        if self._connection is None or self._asked_at is None:
            return None
        return self._connection._get_socket()

    def take(self) -> dict[str, tuple[str, int] | None]:
        """Who has arrived, on which connection (None: unknown). Once `socket` is readable.

        Raises:
          BrokerError: The connection was lost, or the server refused the read.
        """
        connection = self._connection
        if connection is None:
            return {}
        self._asked_at = None
        try:
            with translated(self._endpoint.shown, ("XREAD",)):
                reply: Any = connection.read_response()
        except BrokerError:
            self.close()
            raise
        arrived: dict[str, tuple[str, int] | None] = {}
        for entry_id, fields in reply[0][1] if reply else ():
            self._last = entry_id.decode()
            run_id, _, client_id = fields[3].decode().partition(" ")
            arrived[fields[1].decode()] = None if run_id == "-" else (run_id, int(client_id))
        return arrived

    def close(self) -> None:
        """Ends the read, if one is under way."""
        connection, self._connection = self._connection, None
        self._asked_at = None
        if connection is not None:
            connection.disconnect()
