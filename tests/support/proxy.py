"""A TCP proxy that forwards a request and cuts its reply: what a lost reply looks like to a client.

The server has done the work, the client sees a closed connection. One thread accepts, one serves
each connection; `_lock` guards the rule, the counter and the set of open connections.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import Self
from urllib.parse import unquote, urlsplit

__all__ = ["CuttingProxy"]

_CHUNK_BYTES = 65536


class CuttingProxy:
    """A proxy on 127.0.0.1 to the server at `url` (`unix://` or `redis://`)."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._match = b""
        self._after = 0
        self._keep_bytes = 0
        self._times = 0
        self._cuts = 0
        self._silent_match = b""
        self._silent_times = 0
        self._silenced = 0
        self._closed = False
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, name="proxy-accept", daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        """What the client connects to."""
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def cuts(self) -> int:
        """How many replies were cut so far."""
        with self._lock:
            return self._cuts

    def cut_reply(
        self, match: bytes = b"", *, after: int = 0, times: int = 1, keep_bytes: int = 0
    ) -> None:
        """Cut the replies of the next requests that contain `match`, and close their connections.

        Args:
            match: bytes of the request, as they are on the wire (b"XADD"); empty matches all.
            after: let so many matching requests pass first.
            times: how many replies to cut.
            keep_bytes: forward so many bytes of the reply before the cut.
        """
        with self._lock:
            self._match, self._after = match, after
            self._times, self._keep_bytes = times, keep_bytes

    def fall_silent(self, match: bytes, *, times: int = 1) -> None:
        """Swallow the next requests that contain `match`, and all else on their connections, which
        stay open: what a lost route looks like to a client.
        """
        with self._lock:
            self._silent_match, self._silent_times = match, times

    @property
    def silenced(self) -> int:
        """How many connections have fallen silent so far."""
        with self._lock:
            return self._silenced

    def drop_connections(self) -> None:
        """Close every open connection, between requests as far as the proxy knows."""
        with self._lock:
            for side in self._open:
                _shut(side)

    def close(self) -> None:
        """Stop listening, close every connection, wait for the threads. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for side in self._open:
                _shut(side)
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            thread = threading.Thread(
                target=self._serve, args=(client,), name="proxy-connection", daemon=True
            )
            with self._lock:
                if self._closed:
                    client.close()
                    return
                self._open.add(client)
                self._threads.append(thread)
            thread.start()

    def _connect(self) -> socket.socket:
        if self._target.scheme == "unix":
            server = socket.socket(socket.AF_UNIX)
            server.connect(unquote(self._target.path))
            return server
        assert self._target.hostname is not None
        return socket.create_connection((self._target.hostname, self._target.port or 6379))

    def _serve(self, client: socket.socket) -> None:
        try:
            with self._connect() as server:
                self._pump(client, server)
        except OSError:
            pass  # either side is gone: the other is closed, which is all that a proxy can tell
        finally:
            with self._lock:
                self._open.discard(client)
                client.close()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        seen = b""
        cut_after: int | None = None  # reply bytes still to forward; None: no cut on this one
        is_silent = False
        while True:
            ready, _, _ = select.select([client, server], [], [])
            if client in ready:
                request = client.recv(_CHUNK_BYTES)
                if not request:
                    return
                if is_silent or self._should_fall_silent(request):
                    is_silent = True
                    continue
                # The end of the last chunk too: a match may lie across the border.
                found = self._should_cut(seen + request)
                cut_after = found if found is not None else cut_after
                overlap = len(self._match) - 1
                seen = request[-overlap:] if found is None and overlap > 0 else b""
                server.sendall(request)
            if server in ready:
                reply = server.recv(_CHUNK_BYTES)
                if not reply:
                    return
                if is_silent:
                    continue
                if cut_after is None:
                    client.sendall(reply)
                    continue
                client.sendall(reply[:cut_after])
                cut_after -= len(reply)
                if cut_after <= 0:
                    with self._lock:
                        self._cuts += 1
                    return

    def _should_fall_silent(self, request: bytes) -> bool:
        with self._lock:
            if self._silent_times == 0 or self._silent_match not in request:
                return False
            self._silent_times -= 1
            self._silenced += 1
            return True

    def _should_cut(self, request: bytes) -> int | None:
        with self._lock:
            if self._times == 0 or self._match not in request:
                return None
            if self._after > 0:
                self._after -= 1
                return None
            self._times -= 1
            return self._keep_bytes


def _shut(side: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the peer was faster
        side.shutdown(socket.SHUT_RDWR)
