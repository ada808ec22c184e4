"""One client of the twin: its socket, what it sent, what it is still to get."""

from __future__ import annotations

import socket
from collections import deque
from dataclasses import dataclass, field

import hiredis

from .replies import CommandError, Reply, encoded

__all__ = ["Session", "Waiting"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A blocking read under way.

    Parameters:
      words: The command.
      until_us: When it ends with nothing, the twin's clock; None: never.
    """

    words: list[bytes]
    until_us: int | None


@dataclass(slots=True, eq=False)
class Session:
    """A client's connection."""

    id: int
    sock: socket.socket
    name: bytes = b""
    library: bytes = b""
    since_us: int = 0
    #: Commands that were sent and not begun.
    requests: deque[list[bytes]] = field(default_factory=deque)
    #: Set while it waits: nothing else of it is done.
    waiting: Waiting | None = None
    #: Commands of a transaction that was begun.
    queued: list[list[bytes]] | None = None
    #: Keys that a transaction depends on, and what they held.
    watched: dict[bytes, object] = field(default_factory=dict)
    closing: bool = False
    unsent: bytearray = field(default_factory=bytearray)
    _reader: hiredis.Reader = field(default_factory=hiredis.Reader)

    def feed(self, data: bytes) -> None:
        """Takes in what the client sent. What is no command ends the session."""
        self._reader.feed(data)
        try:
            while (request := self._reader.gets()) is not False:
                if not isinstance(request, list) or not request:
                    raise hiredis.ProtocolError("a command is a list of strings")
                self.requests.append(request)
        except hiredis.ProtocolError as error:
            self.answer(CommandError(f"ERR Protocol error: {error}"))
            self.closing = True

    def answer(self, reply: Reply) -> None:
        """Puts a reply behind those that are not sent yet."""
        self.unsent += encoded(reply)

    def flush(self) -> None:
        """Sends what the socket takes.

        Raises:
          OSError: The client has gone.
        """
        while self.unsent:
            try:
                sent = self.sock.send(self.unsent)
            except BlockingIOError:
                return
            del self.unsent[:sent]
