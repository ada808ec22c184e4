"""The few steps between fork and exec of the embedded server; run as a script, never imported.

The supervisor starts `python -I -S embedded_stub.py SPEC` (SPEC is JSON, see `main`), and this
process *becomes* the server: same pid, same lock. It exists because these steps must happen in the
child, and `preexec_fn` is unsafe in a program with threads. In order:

1. Ask the kernel for SIGTERM when the spawning thread dies (Linux only), then look whether it is
   already dead: a parent lost before step 1 sends no signal.
2. Wait for the directory's lock. Its descriptor is inherited by the server, and by a child that the
   server forks to rewrite its file, so the lock is free only when nothing writes there any more.
   Taken here and not in the parent, because a lock held for a moment by the parent would leak into
   whatever another thread of the parent forks in that moment.
3. Write the info file, by rename: whoever reads it sees the old one or the whole new one.
4. Send output to the log and exec. A failure up to here is one line on the original stderr.

A crash between the steps leaves at most an info file whose pid does not answer; readers check that.

Why SIGTERM and not SIGKILL: under `appendfsync everysec` the server holds confirmed writes back in
its memory for up to 2 s while an earlier fsync hangs; SIGTERM makes it write and fsync them. What
SIGTERM cannot end (a stopped process, an endless script) keeps the lock, so it is reported by the
next start and never run beside a second server.
"""

# Only the standard library, and as little as possible of it: this runs at every start.
from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import sys
from typing import Any, NoReturn

__all__: list[str] = []

#: prctl option of Linux: the signal to get when the parent thread dies.
_PR_SET_PDEATHSIG = 1
#: Size in bytes beyond which a start moves the log aside (one old log is kept).
_LOG_ROTATE_BYTES = 4 * 1024 * 1024
#: Exit status after a failure that was told on stderr.
_EXIT_FAILED = 70


def _follow_parent(parent_pid: int) -> None:
    """Die with the parent thread where the kernel offers it; leave now if it is gone."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != parent_pid:
        raise ProcessLookupError(f"the starting process {parent_pid} is gone")


def _take_lock(path: str) -> int:
    """Wait for the lock; return its descriptor, which the server will inherit."""
    lock_fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock_fd, fcntl.LOCK_EX)
    os.set_inheritable(lock_fd, True)
    return lock_fd


def _write_info(path: str, info: dict[str, Any]) -> None:
    """Replace the info file in one step."""
    fresh = f"{path}.{os.getpid()}"
    with open(fresh, "w", encoding="utf-8") as file:
        json.dump(info, file)
    os.replace(fresh, path)


def _send_output_to(log_path: str) -> None:
    """Point stdout and stderr to the log, moving a large one aside first."""
    if os.path.exists(log_path) and os.path.getsize(log_path) > _LOG_ROTATE_BYTES:
        os.replace(log_path, f"{log_path}.1")
    log_fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(log_fd, b"--- start\n")
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)


def _main(spec: dict[str, Any]) -> NoReturn:
    """Become the server.

    `spec`: `parent_pid`, `data_dir`, `lock`, `info_path`, `log` (names inside `data_dir`),
    `argv` (the server's), `info` (what the info file says besides pid and lock inode).
    """
    os.umask(0o077)  # everything that the server writes is the user's own
    # A thread may have blocked or ignored it, and both survive exec.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _follow_parent(spec["parent_pid"])
    # The server's paths are relative to its directory: no quoting, no length limit.
    os.chdir(spec["data_dir"])
    lock_fd = _take_lock(spec["lock"])
    lock_inode = os.fstat(lock_fd).st_ino
    _write_info(spec["info_path"], {**spec["info"], "pid": os.getpid(), "lock_inode": lock_inode})
    told = os.dup(2)  # closed by a successful exec
    _send_output_to(spec["log"])
    argv: list[str] = spec["argv"]
    try:
        os.execv(argv[0], argv)
    finally:
        os.dup2(told, 2)


if __name__ == "__main__":
    try:
        _main(json.loads(sys.argv[1]))
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        sys.exit(_EXIT_FAILED)
