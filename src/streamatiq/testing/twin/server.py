"""The twin of a server: one thread, one Unix socket, all data in memory.

It is a server in this process, spoken to as any other: the broker above it is the real one, with
its connections, its parsing and its errors. Like the real one it does one command after the other,
so a script, and a transaction, is never seen half done. Readers that wait are served in the order
in which they came, right after the command that brought what they wait for.

Only the thread touches data and sessions. `_calls` brings it what other threads want done.
"""

from __future__ import annotations

import atexit
import os
import selectors
import shutil
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

from dramatiq.logging import get_logger

from ...errors import BrokerError
from .clients import Clients
from .session import Session
from .store import Store

__all__ = ["Twin"]

T = TypeVar("T")

#: Bytes of one read.
READ = 1 << 16
#: Longest path of a Unix socket that every system takes, characters.
MAX_PATH = 100
#: Seconds that a call from another thread may take.
PATIENCE_S = 10.0


class Twin:
    """A server in this process: Redis' commands as far as Streamatiq uses them, its real scripts.

    Anything that takes a URL may use it while it runs, also another process. Nothing is kept after
    `close`. Thread-safe.

    Parameters:
      clock_ns: Wall clock, ns; `advance` moves on from there.

    Raises:
      ConfigurationError: Lua is not installed: `pip install 'streamatiq[testing]'`.
    """

    def __init__(self, *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.logger = get_logger(__name__, type(self))
        self._clock_ns = clock_ns
        self._ahead_us = 0
        self._store = Store(self._now_us)
        self._clients = Clients(self._store)
        self._folder = _short_folder()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = self._folder / "twin.sock"
        #: unix://PATH
        self.url = f"unix://{path}"
        self._listener.bind(str(path))
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._calls: deque[Callable[[], None]] = deque()
        self._closing = False
        self._pid = os.getpid()
        atexit.register(self.close)  # a broker that is global is seldom closed
        self._thread = threading.Thread(target=self._run, name="streamatiq-twin", daemon=True)
        self._thread.start()

    # -- for tests -----------------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        """The twin's clock, ms UTC."""
        return self._now_us() // 1000

    @property
    def writes(self) -> int:
        """How many commands that may write were done: unchanged means nothing has happened."""
        return self._store.writes

    def advance(self, seconds: float) -> None:
        """Moves the twin's clock on: what is delayed until then is due at once, what lives until
        then is gone.

        Other worker processes look as if they had been silent all that time.
        """

        def move() -> None:
            self._ahead_us += int(seconds * 1_000_000)

        self._ask(move)

    def clear(self) -> None:
        """Drops all data. Connections stay."""
        self._ask(self._store.clear)

    def fill(self, full: bool = True) -> None:
        """Behaves as if memory were full (or not any more): what may not grow is refused."""

        def fill() -> None:
            self._clients.scripts.full = full

        self._ask(fill)

    def cut(self) -> None:
        """Closes all connections, as a failing network does. New ones are taken."""

        def cut() -> None:
            for session in list(self._clients.sessions.values()):
                self._end(session)

        self._ask(cut)

    def close(self) -> None:
        """Ends the twin; its data are gone. Idempotent; without effect in a forked process."""
        if self._closing or self._pid != os.getpid():
            return
        self._closing = True
        atexit.unregister(self.close)
        self._nudge()
        self._thread.join()
        self._listener.close()
        self._selector.close()
        self._wake.close()
        self._waker.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Twin({self.url!r})"

    # -- the thread ----------------------------------------------------------------------------

    def _now_us(self) -> int:
        return self._clock_ns() // 1000 + self._ahead_us

    def _nudge(self) -> None:
        # A full pipe wakes the thread as well; a closed one has none to wake.
        with suppress(OSError):
            self._waker.send(b"x")

    def _ask(self, action: Callable[[], T]) -> T:
        """Runs `action` in the thread, between two commands."""
        if self._closing:
            raise BrokerError(f"{self!r} is closed.")
        future: Future[T] = Future()
        self._calls.append(lambda: future.set_result(action()))
        self._nudge()
        return future.result(PATIENCE_S)

    def _run(self) -> None:
        try:
            while not self._closing:
                self._step()
        except Exception:
            # All clients would wait for ever: say what happened, and let them see the end.
            self.logger.exception("The twin has failed.")
        finally:
            for session in list(self._clients.sessions.values()):
                self._end(session)

    def _step(self) -> None:
        until_us = self._clients.next_deadline_us()
        timeout_s = None
        if until_us is not None:
            timeout_s = max(0.0, (until_us - self._now_us()) / 1_000_000)
        for key, events in self._selector.select(timeout_s):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._wake:
                with suppress(BlockingIOError):
                    self._wake.recv(READ)
            elif isinstance(key.data, Session) and key.data.id in self._clients.sessions:
                self._serve(key.data, events)
        while self._calls:
            self._calls.popleft()()
        self._clients.time_out()
        for session in self._clients.take_touched():
            if session.closing:
                self._end(session)
            else:
                self._flush(session)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        session = self._clients.open(sock)
        self._selector.register(sock, selectors.EVENT_READ, session)

    def _serve(self, session: Session, events: int) -> None:
        if events & selectors.EVENT_READ:
            try:
                data = session.sock.recv(READ)
            except BlockingIOError:
                data = None
            except OSError:
                data = b""
            if data == b"":
                self._end(session)
                return
            if data:
                session.feed(data)
                self._clients.work(session)
        if events & selectors.EVENT_WRITE:
            self._flush(session)

    def _flush(self, session: Session) -> None:
        try:
            session.flush()
        except OSError:
            self._end(session)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if session.unsent else 0)
        self._selector.modify(session.sock, wanted, session)

    def _end(self, session: Session) -> None:
        if self._clients.close(session):
            self._selector.unregister(session.sock)
            session.sock.close()


def _short_folder() -> Path:
    """A new folder whose path leaves room for the name of a socket."""
    folder = Path(tempfile.mkdtemp(prefix="streamatiq-"))
    if len(str(folder / "twin.sock")) <= MAX_PATH:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="streamatiq-", dir="/tmp"))
