"""Waiting for what another process does: the only place in the tests that polls.

A test waits for the effect itself (a key, a log line, a process's end) until a deadline, never for
a guessed time; so it is as fast as the machine allows and fails only when the effect is missing.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["wait_gone", "wait_until"]

T = TypeVar("T")

#: Seconds between two looks.
_POLL_S = 0.005


def wait_until(
    predicate: Callable[[], T], timeout_s: float = 10.0, what: str | Callable[[], str] = ""
) -> T:
    """Call `predicate` until it returns something true, and return that.

    Args:
        predicate: what is waited for; an exception of its own ends the wait.
        timeout_s: after this many seconds the test fails.
        what: said in the failure; a function is called only then, so it may read a log.

    Raises:
        AssertionError: not true in time; tells the last value.
    """
    never = threading.Event()
    deadline = time.monotonic() + timeout_s
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            told = what() if callable(what) else what
            name = getattr(predicate, "__qualname__", repr(predicate))
            raise AssertionError(
                f"not so within {timeout_s:g} s: {told or name} (last value: {value!r})"
            )
        never.wait(_POLL_S)


def wait_gone(pid: int, timeout_s: float = 10.0) -> None:
    """Wait for the end of a process that need not be a child of ours.

    Raises:
        AssertionError: it still lives after `timeout_s`.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        watch = select.poll()
        watch.register(pidfd, select.POLLIN)
        if not watch.poll(timeout_s * 1000):
            raise AssertionError(f"process {pid} still lives after {timeout_s:g} s")
    finally:
        os.close(pidfd)
