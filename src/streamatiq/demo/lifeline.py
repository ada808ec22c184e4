"""Ends the worker processes of a demo that was killed, however it was killed.

The demo holds a lock on a file; each worker process waits for that lock in a thread. Only the
kernel lets go of it for a process that died by kill -9, at once and on every Unix, so whoever gets
the lock knows that the demo is gone. It then kills its process group, which is the `dramatiq`
command with all of its workers and nothing else: Dramatiq's main process would wait half a minute
for workers that end before they are ready. Nothing is lost by that: what was not settled stays
pending.

The lock is taken before the file gets its name, so a lock file that can be locked has no demo.
Worker processes load this module first, as a module of handlers, and are told the file's name by
the environment.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from pathlib import Path

__all__ = ["VARIABLE", "abandoned", "follow", "hold"]

#: Environment variable of worker processes: the lock file. Without our prefix, which is for
#: settings only.
VARIABLE = "DEMO_OF_STREAMATIQ_LIFELINE"


def hold(path: Path) -> int:
    """Makes the file `path` and locks it, until the descriptor returned is closed."""
    unnamed = path.with_suffix(".new")
    fd = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.rename(unnamed, path)
    return fd


def abandoned(path: Path) -> bool:
    """Whether the lock file is there, and neither a demo nor a worker process holds it."""
    try:
        fd = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def follow(path: Path) -> threading.Thread:
    """Kills this process's group, without any cleaning up, once nobody holds the file `path`."""

    def wait() -> None:
        try:
            fd = os.open(path, os.O_RDWR)
            # Shared, so that no worker process waits for another one's end.
            fcntl.flock(fd, fcntl.LOCK_SH)
        finally:
            os.killpg(0, signal.SIGKILL)

    thread = threading.Thread(target=wait, name="demo-lifeline", daemon=True)
    thread.start()
    return thread


if VARIABLE in os.environ:
    follow(Path(os.environ[VARIABLE]))
