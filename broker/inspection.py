"""What a queue or subscription still holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dramatiq.errors import QueueJoinTimeout

from ..errors import CommandFailed
from .connections import Link
from .sources import Source

__all__ = ["subscription_backlog", "wait_until_empty"]

#: Seconds between two looks.
LOOK_EVERY_S = 0.01


def subscription_backlog(link: Link, sources: Sequence[Source]) -> int:
    """Pending and unread entries of a subscription.

    How many are unread the server may not know, or not for sure (see Redis' notes on `lag`);
    whether there are any it does. Unread entries that it cannot count are counted as 1 a stream.
    """
    return sum(_left(link, source.keys.entries, source.group) for source in sources)


def wait_until_empty(name: str, backlog: Callable[[], int], timeout_ms: int | None) -> None:
    """Looks until `backlog()` is 0.

    Raises:
      QueueJoinTimeout: It was not within `timeout_ms`.
    """
    deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
    pause = threading.Event()
    while backlog():
        if deadline is not None and time.monotonic() >= deadline:
            raise QueueJoinTimeout(name)
        pause.wait(LOOK_EVERY_S)


def _left(link: Link, entries: str, group: str) -> int:
    """Pending and unread entries of one stream."""
    try:
        groups: Iterable[list[Any]] = link.send("XINFO", "GROUPS", entries)
    except CommandFailed:
        return 0  # no such stream: nothing was published and nobody has subscribed
    for fields in groups:
        info = dict(zip(fields[::2], fields[1::2], strict=True))
        if info[b"name"] == group.encode():
            after = b"(" + info[b"last-delivered-id"]
            unread = link.send("XRANGE", entries, after, "+", "COUNT", 1)
            lag = max(1, int(info.get(b"lag") or 0)) if unread else 0
            return int(info[b"pending"]) + lag
    return 0
