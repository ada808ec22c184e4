"""A blocking read of the stream of changes that can be given up at any moment."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.connection import AbstractConnection

from ..broker.connections import Endpoint
from ..broker.faults import translated

__all__ = ["MOST", "Changed", "Changes"]

#: Changes taken in one read. The stream keeps about as many: after a full read, older ones may have
#: been dropped unseen.
MOST = 1000
#: Seconds beyond its own time-out after which a read's connection counts as lost.
MARGIN_S = 5.0


class Changed(NamedTuple):
    """One change."""

    #: `created`, `changed`, `removed`, `pause`, `resume`, `run` or `abdicate`.
    action: str
    schedule: str


class Changes:
    """Waits for changes, on a connection of its own. For one thread, but for `interrupt`.

    Parameters:
      key: The stream.
      endpoint: The server.
    """

    def __init__(self, key: str, endpoint: Endpoint) -> None:
        self._key = key
        self._endpoint = endpoint
        self._connection: AbstractConnection | None = None
        #: Id of the last change that was seen.
        self.last = "$"
        self._lock = threading.Lock()  # guards the writing end
        self._woken, self._waker = socket.socketpair()

    def wait(self, timeout_s: float) -> Sequence[Changed]:
        """The changes since the last call; none after `timeout_s` seconds, or when interrupted.

        Raises:
          BrokerConnectionError: The connection was lost; call again.
          BrokerError: The server refused.
        """
        with translated(self._endpoint.shown, ("XREAD", self._key)):
            connection = self._connection
            if connection is None:
                connection = self._endpoint.connection(name="streamatiq-scheduler-changes")
                connection.connect()
                self._connection = connection
            block_ms = max(1, int(timeout_s * 1000))
            connection.send_command(
                "XREAD", "COUNT", MOST, "BLOCK", block_ms, "STREAMS", self._key, self.last
            )
            if not self._readable(connection, timeout_s + MARGIN_S):
                self.close_connection()  # a read is under way on it
                return ()
            reply: Any = connection.read_response()
        changed: list[Changed] = []
        for entry_id, flat in reply[0][1] if reply else ():
            self.last = entry_id.decode()
            values = [one.decode() for one in flat]
            fields = dict(zip(values[::2], values[1::2], strict=True))
            changed.append(Changed(fields["a"], fields["s"]))
        return changed

    def _readable(self, connection: AbstractConnection, timeout_s: float) -> bool:
        sock = connection._get_socket()
        assert sock is not None
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            ready = {key.fileobj for key, _ in selector.select(timeout_s)}
        return bool(ready) and self._woken not in ready

    def interrupt(self) -> None:
        """Ends the wait that is under way, and all later ones, at once. Once closed: nothing."""
        with self._lock:
            if self._waker.fileno() != -1:
                self._waker.send(b"x")

    def close_connection(self) -> None:
        """Gives the connection up; the next wait opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def close(self) -> None:
        """Ends all of it."""
        self.close_connection()
        with self._lock:
            self._waker.close()
        self._woken.close()
