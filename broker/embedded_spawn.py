"""One long-lived thread that starts every embedded server of this process.

The kernel's parent-death signal follows the *thread* that spawned, not its process: a server
started by a short-lived thread would be ended with that thread. So all of them are started by one
daemon thread that lives as long as the process. It is a plain daemon thread and not an executor,
whose threads end before the `atexit` hooks that still need the server.

`_lock` guards `_requests`, the queue to that thread. A forked child has neither the thread nor a
usable lock; both are made anew there.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future

__all__ = ["spawn"]

_Start = Callable[[], "subprocess.Popen[bytes]"]
_Request = tuple[_Start, "Future[subprocess.Popen[bytes]]"]

_lock = threading.Lock()
_requests: queue.SimpleQueue[_Request] | None = None


def _serve(requests: queue.SimpleQueue[_Request]) -> None:
    while True:
        start, answer = requests.get()
        try:
            answer.set_result(start())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            answer.set_exception(error)
        del start, answer  # do not keep the process object alive until the next request


def _forget_after_fork() -> None:
    global _lock, _requests  # noqa: PLW0603 - one thread a process is the purpose
    _lock = threading.Lock()
    _requests = None


os.register_at_fork(after_in_child=_forget_after_fork)


def spawn(argv: list[str]) -> subprocess.Popen[bytes]:
    """Start `argv` from the spawning thread, in a session of its own.

    The session keeps a terminal's Ctrl-C from ending the server before the workers have settled.
    stderr is a pipe of the returned process; stdin and stdout are closed.

    Raises:
        OSError: `argv[0]` could not be started.
    """
    global _requests  # noqa: PLW0603 - one thread a process is the purpose
    with _lock:
        if _requests is None:
            _requests = queue.SimpleQueue()
            threading.Thread(
                target=_serve, args=(_requests,), name="streamatiq-spawn", daemon=True
            ).start()
        requests = _requests
    answer: Future[subprocess.Popen[bytes]] = Future()
    requests.put(
        (
            lambda: subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            ),
            answer,
        )
    )
    return answer.result()
