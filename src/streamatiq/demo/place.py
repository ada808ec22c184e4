"""Where a run takes place: its server, its namespace, and a directory of its own.

    directory/lifeline       locked while the run lasts (`lifeline`)
    directory/workers.log    what the worker processes say
    directory/data/          the embedded server's data, unless it was asked for elsewhere

The directory is a temporary one and is removed at the end; after a failure the log is kept. A run
that was killed cannot do that, so the next one removes what is left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from ..broker.embedded import EmbeddedServer
from ..broker.embedded_files import LOCK
from . import lifeline

__all__ = ["Directory", "remove_abandoned", "remove_namespace", "server_url"]

PREFIX = "streamatiq-demo-"
LIFELINE = "lifeline"
DATA = "data"
#: Keys that one SCAN looks at, and that one UNLINK removes.
KEYS_A_CALL = 1000


class Directory:
    """The directory of one run; made by `make`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        #: Set where the log is worth keeping.
        self.keep_log = False
        self._lock = lock

    @classmethod
    def make(cls) -> Directory:
        """Makes it, as a temporary directory, and holds its lifeline."""
        path = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
        return cls(path, lifeline.hold(path / LIFELINE))

    @property
    def lifeline(self) -> Path:
        """The file that worker processes follow."""
        return self.path / LIFELINE

    @property
    def data(self) -> Path:
        """Where an embedded server keeps its data."""
        return self.path / DATA

    def close(self) -> None:
        """Removes it, the log excepted where that is kept."""
        shutil.rmtree(self.data, ignore_errors=True)
        self.lifeline.unlink(missing_ok=True)
        os.close(self._lock)
        if not self.keep_log:
            shutil.rmtree(self.path, ignore_errors=True)


def remove_abandoned(parent: Path | None = None) -> list[Path]:
    """Removes directories of runs that were killed, and returns them.

    Parameters:
      parent: Where they are looked for; default: where temporary directories are made.
    """
    found = Path(parent or tempfile.gettempdir()).glob(f"{PREFIX}*")
    removed = [
        path
        for path in found
        if path.lstat().st_uid == os.getuid()  # the place is open to everybody
        and lifeline.abandoned(path / LIFELINE)
        and not _server_lives(path / DATA / LOCK)
    ]
    for path in removed:
        shutil.rmtree(path, ignore_errors=True)
    return removed


def _server_lives(lock: Path) -> bool:
    """Where there is no parent-death signal (not Linux), a server outlives a killed demo."""
    try:
        fd = os.open(lock, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@contextmanager
def server_url(url: str | None, data_dir: Path) -> Iterator[str]:
    """The URL of the server to use; an embedded one on `data_dir` runs in the block if there is
    none.

    Raises:
      EmbeddedServerError: It is not installed, or cannot be started.
    """
    if url is not None:
        yield url
        return
    with EmbeddedServer.ensure(data_dir) as server:
        yield server.url


def remove_namespace(client: redis.Redis, namespace: str) -> int:
    """Deletes all keys of a namespace; returns how many."""
    removed = 0
    for pattern in (f"{{{namespace}:*", f"{namespace}:*"):
        page = []
        for key in client.scan_iter(pattern, count=KEYS_A_CALL):
            page.append(key)
            if len(page) == KEYS_A_CALL:
                removed += int(client.unlink(*page))
                page = []
        if page:
            removed += int(client.unlink(*page))
    return removed
