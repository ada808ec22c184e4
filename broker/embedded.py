"""The embedded server: a real Valkey under our own supervisor, for first runs and tests.

One server a data directory, whoever asks for it and however often. The state is the directory's
(files: `embedded_files`), not this process's:

    nothing runs      `ensure` starts a child that waits for the directory's lock and then becomes
                      the server (`embedded_stub`); the caller owns it
    a server runs     it holds the lock, so the child waits; it answers on the socket that the info
                      file names, so `ensure` ends the child and adopts it
    one is dying,     it holds the lock and does not answer: `ensure` waits for either, up to its
    or hangs          time-out, and then names its pid

So two servers never write one directory, and whoever is killed, at any moment, the next `ensure`
finds one of these three states. The server ends with its owner: `stop()`, an exit hook, and on
Linux a signal from the kernel if the owner dies by kill -9 (SIGTERM: see `embedded_stub` for why).
An adopted server therefore ends with *its* owner, not with the adopter; call `ensure` again.

Weaker elsewhere: without Linux's parent-death signal (macOS) a server outlives an owner killed by
-9. It keeps the lock; the next `ensure` adopts it, and it must be stopped by its pid.

`_lock` guards stopping: `_process` is polled, signalled and reaped only under it. All other fields
are set once. A forked child shares the object but not the ownership: there `owned` is False and
`stop()` does nothing, without touching the lock.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import redis

from ..errors import EmbeddedServerError
from .embedded_files import ServerInfo, embedded_url_path
from .embedded_start import LOOPBACK, short_client, start_or_adopt

__all__ = ["EmbeddedServer", "embedded_url_path"]


class EmbeddedServer:
    """A server on a data directory: started by this process, or adopted. Make one by `ensure`.

    Every method may be called from any thread. As a context manager it stops at the end.
    """

    def __init__(
        self, data_dir: Path, info: ServerInfo, process: subprocess.Popen[bytes] | None
    ) -> None:
        self._data_dir = data_dir
        self._info = info
        self._process = process
        self._starter_pid = os.getpid()
        self._lock = threading.Lock()
        if process is not None:
            atexit.register(self.stop)

    @classmethod
    def ensure(
        cls, data_dir: Path | str, *, start_timeout_s: float = 10.0, port: int | None = None
    ) -> Self:
        """Start a server on `data_dir`, or adopt the one that runs there.

        Returns when the server has loaded its data and answers.

        Args:
            data_dir: created with mode 700 if it does not exist.
            start_timeout_s: for the whole call: an older server's end, start, loading of the data.
            port: listen on this TCP port of 127.0.0.1 too, 0 for a free one, None for no TCP.
                TCP has no password: every user of the machine can connect.

        Raises:
            EmbeddedServerError: not installed, directory not usable, no answer in time, died at its
                start, or a running one listens on another port than asked for.
        """
        found = start_or_adopt(data_dir, start_timeout_s=start_timeout_s, port=port)
        return cls(found.data_dir, found.info, found.process)

    @property
    def data_dir(self) -> Path:
        """The real path of the data directory."""
        return self._data_dir

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._info.pid

    @property
    def owned(self) -> bool:
        """Whether this process started the server, and so stops it."""
        return self._process is not None and self._starter_pid == os.getpid()

    @property
    def url(self) -> str:
        """The URL of its unix socket (mode 700), for redis-py and `redis.url`."""
        return f"unix://{quote(str(self._data_dir / self._info.socket))}"

    @property
    def tcp_url(self) -> str:
        """The URL of its TCP port.

        Raises:
            EmbeddedServerError: it was started without one.
        """
        if self._info.port is None:
            raise EmbeddedServerError(
                f"the embedded server on {self._data_dir} has no TCP port; start it with "
                "ensure(..., port=0), or use its unix socket"
            )
        return f"redis://{LOOPBACK}:{self._info.port}"

    def stop(self, timeout_s: float = 10.0) -> None:
        """Shut the server down if this process owns it, and wait for its end. Idempotent.

        Raises:
            EmbeddedServerError: it did not end within `timeout_s` and was killed.
        """
        if self._process is None or self._starter_pid != os.getpid():
            return
        with self._lock:
            atexit.unregister(self.stop)
            if self._process.poll() is None:
                deadline = time.monotonic() + timeout_s
                self._ask_to_end(self._process)
                try:
                    self._process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
                    raise EmbeddedServerError(
                        f"the embedded server on {self._data_dir} (pid {self.pid}) did not stop "
                        f"within {timeout_s:g} s and was killed; what it had not yet written (up "
                        "to 2 s if the disk hangs) is lost. Look into its server.log"
                    ) from None

    def _ask_to_end(self, process: subprocess.Popen[bytes]) -> None:
        # SHUTDOWN works at once. After SIGTERM the server goes on answering for a tenth of a
        # second, in which another process would adopt it. The connection ends with the server, so
        # an error says nothing here; the signal follows in any case, and does no harm twice.
        with (
            contextlib.suppress(redis.RedisError),
            short_client(self._data_dir, self._info) as client,
        ):
            client.execute_command("SHUTDOWN")
        process.terminate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        role = "owned" if self.owned else "adopted"
        return f"<EmbeddedServer {self._data_dir} pid={self.pid} {role}>"
