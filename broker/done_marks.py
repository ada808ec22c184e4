"""Events that were handled before: found among those that were claimed, before they are handed out.

Every settled event leaves a done mark. A duplicate is possible where an entry is delivered again (a
crash, a retry, a hand-back, a dead letter that was requeued), and, where marks are kept for longer
than publishing remembers ids, with any entry. Only there the marks are looked up.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import redis

from .claimed import Claimed
from .connections import Link
from .faults import translated
from .payloads import event_id
from .settlements import DUPLICATE
from .sources import Source

__all__ = ["marked_done"]


def marked_done(
    link: Link, claimed: Sequence[Claimed], again: Collection[bytes], window_ms: int
) -> list[Claimed]:
    """What was claimed; what was done before knows that it is a duplicate. One round trip, where
    there is something to look up.

    Parameters:
      again: Entry ids that were delivered before.
      window_ms: How long a publish id is kept at least.

    Raises:
      BrokerError: The server cannot be reached or refused. What was claimed stays pending, and is
        found by the comparison of pending entries.
    """
    asked: dict[Source, dict[bytes, bytes]] = {}
    for one in claimed:
        if one.source.is_log and (one.entry_id in again or _outlives(one.source, window_ms)):
            asked.setdefault(one.source, {})[one.entry_id] = event_id(one)
    if not asked:
        return list(claimed)
    done = _done(link, asked)
    return [
        one._replace(ending=DUPLICATE) if (one.source, one.entry_id) in done else one
        for one in claimed
    ]


def _outlives(source: Source, window_ms: int) -> bool:
    return source.done_ms is not None and (source.done_ms == 0 or source.done_ms > window_ms)


def _done(link: Link, asked: dict[Source, dict[bytes, bytes]]) -> set[tuple[Source, bytes]]:
    commands = [
        ("HMGET", key, *ids.values())
        for source, ids in asked.items()
        for key in (source.keys.done, source.keys.done_old)
    ]
    replies = link.send_many(commands)
    for command, reply in zip(commands, replies, strict=True):
        if isinstance(reply, redis.ResponseError):
            with translated(link.endpoint.shown, command):
                raise reply
    found: set[tuple[Source, bytes]] = set()
    for at, (source, ids) in enumerate(asked.items()):
        young, old = replies[2 * at : 2 * at + 2]
        for entry_id, mark, older in zip(ids, young, old, strict=True):
            if ids[entry_id] and (mark or older):
                found.add((source, entry_id))
    return found
