"""The blocking read of an idle intake: waits for an entry, or for a wake-up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import redis

from .connections import Alarm, Link
from .faults import translated
from .groups import wake_keys
from .sources import Source

__all__ = ["Arrival", "Arrived", "blocking_read"]


class Arrived(NamedTuple):
    """An entry that ended the wait."""

    source: Source
    entry_id: bytes
    #: Field, value, ...
    fields: list[bytes]


class Arrival(NamedTuple):
    """What ended the wait."""

    #: Empty after a wake-up alone.
    entries: list[Arrived]
    #: Whether message ids are known to be cancelled.
    cancellations: bool


def blocking_read(
    link: Link,
    sources: Sequence[Source],
    consumer: str,
    block_ms: int,
    *,
    cancelled: str | None,
    alarm: Alarm | None,
) -> Arrival | None:
    """Waits for one entry of any source, or for a wake-up of the group.

    Entries are claimed for `consumer`; COUNT 1 is a stream's, so there may be one of each. Of the
    readers that wait, a wake-up ends exactly one's wait.

    Parameters:
      block_ms: How long to wait.
      cancelled: Of a work queue: the key of its cancelled messages.
      alarm: Ends the wait when something is due; the server's own time-outs are not exact.

    Returns:
      What arrived; None when the time was over.

    Raises:
      CommandFailed: NOGROUP (a stream or group was deleted), UNBLOCKED, or another refusal.
      BrokerConnectionError: The connection was lost; what was claimed with it is found by
        comparing pending entries later.
    """
    group = sources[0].group
    keys = [*(source.keys.entries for source in sources), *wake_keys(sources)]
    read = (
        "XREADGROUP", "GROUP", group, consumer, "COUNT", 1,
        "BLOCK", block_ms, "STREAMS", *keys, *[">"] * len(keys),
    )  # fmt: skip
    commands: list[tuple[Any, ...]] = [read]
    if cancelled is not None:
        # The server looks at the second command right after the first: what was cancelled before
        # it was claimed is known then.
        commands.append(("EXISTS", cancelled))
    reply, *known = link.send_many(commands, alarm=alarm)
    if isinstance(reply, redis.ResponseError):
        with translated(link.endpoint.shown, read):
            raise reply
    if not reply:
        return None
    by_key = {source.keys.entries.encode(): source for source in sources}
    arrived: list[Arrived] = []
    for key, entries in reply:
        source = by_key.get(key)
        if source is None:
            _drop_wakes(link, group, key, entries)
        else:
            arrived += [Arrived(source, entry_id, fields) for entry_id, fields in entries]
    return Arrival(arrived, known == [1])


def _drop_wakes(link: Link, group: str, key: bytes, entries: Sequence[Any]) -> None:
    ids = [entry[0] for entry in entries]
    link.send_many([("XACK", key, group, *ids), ("XDEL", key, *ids)])
