"""Reads a cut: where all subscriptions stand.

The positions of one script call are of one moment, handlers' states included. With more streams
than one call takes, calls follow within milliseconds, each of one moment. Nothing depends on their
being the same one: logs are never rewound, and a subscription's position and state on one stream
are read together; what it does next follows from these alone. Halts and breakers are read after
the positions.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ...broker import checkpoint_scripts as scripts
from ...broker import guard_scripts
from ...broker.checkpoint_scripts import GroupPosition, Positions, StreamPosition
from ...broker.connections import LinkPool
from ...broker.entry_ids import id_before
from ...broker.keys import Keys
from ...broker.known_logs import known_logs, layout_parts
from ...events.registry import known_class
from ...settings import Settings
from ..exclusive import run
from .model import Checkpoint, LogEnd, Position

__all__ = ["read_positions", "streams_of", "take"]

#: Streams of one call: the server is busy with it for some milliseconds.
STREAMS_A_CALL = 500
#: Pending entries of one subscription and stream that are stored: more than a process holds.
PENDING_OF_ONE = 10_000
#: What an id begins with: the time, to the microsecond, and how many characters that has.
_ID_TIME, _ID_DIGITS = "%Y%m%dT%H%M%S.%f", 22
#: Pending entries that are stored in all, of one call.
PENDING_IN_ALL = 100_000


def streams_of(layouts: dict[str, str]) -> list[tuple[str, str]]:
    """Type and part of each stream of logs."""
    return [(name, part) for name, layout in layouts.items() for part in layout_parts(layout)]


def read_positions(
    links: LinkPool, keys: Keys, streams: Sequence[tuple[str, str]], *, with_pending: bool = True
) -> tuple[list[Positions], dict[str, StreamPosition | None]]:
    """Where `streams` (type, part) stand, and all who read them: by `TYPE:PART`.

    Raises:
      BrokerError: The server cannot be reached or refuses.
    """
    moments: list[Positions] = []
    found: dict[str, StreamPosition | None] = {}
    for at in range(0, len(streams), STREAMS_A_CALL):
        page = streams[at : at + STREAMS_A_CALL]
        call = scripts.positions(
            [keys.log(*one) for one in page],
            of_one=PENDING_OF_ONE if with_pending else 1,
            in_all=PENDING_IN_ALL if with_pending else 0,
        )
        moment = run(links, call)
        moments.append(moment)
        for (name, part), stream in zip(page, moment.streams, strict=True):
            found[f"{name}:{part}"] = stream
    return moments, found


def take(
    links: LinkPool,
    keys: Keys,
    settings: Settings,
    *,
    reason: str,
    by: str,
    parent: str | None,
) -> Checkpoint:
    """A checkpoint of now, not stored.

    Raises:
      BrokerError: The server cannot be reached or refuses.
    """
    layouts = links.call(lambda link: known_logs(link, keys))
    moments, streams = read_positions(links, keys, streams_of(layouts))
    guarded = run(links, guard_scripts.read(keys.guards))
    at_us = moments[0].at_us if moments else guarded.now_ms * 1000
    there = {place: stream for place, stream in streams.items() if stream is not None}
    subscriptions: dict[str, dict[str, Position]] = {}
    for place, stream in there.items():
        for name, group in stream.groups.items():
            subscriptions.setdefault(name, {})[place] = _position(stream, name, group)
    return Checkpoint(
        id=_new_id(at_us, parent),
        at_us=at_us,
        reason=reason,
        by=by,
        parent=parent,
        namespace=keys.namespace,
        moments=len(moments),
        layouts=layouts,
        logs={
            place: LogEnd(
                last=stream.last, added=stream.added, length=stream.length, first=stream.first
            )
            for place, stream in there.items()
        },
        subscriptions=dict(sorted(subscriptions.items())),
        breakers={
            name: {"state": one.state, "failures": one.failures, "reason": one.reason, "by": one.by}
            for name, one in guarded.breakers.items()
        },
        halts={
            scope: {"reason": one.reason, "by": one.by, "since": one.since.isoformat()}
            for scope, one in guarded.halts.items()
        },
        schemas={name: _schema(name) for name in layouts},
        settings=_settings(settings),
    )


def _position(stream: StreamPosition, name: str, group: GroupPosition) -> Position:
    exact = len(group.oldest) == group.pending
    return Position(
        safe=id_before(group.oldest[0]) if group.oldest else group.last,
        last=group.last,
        read=group.read,
        pending=group.oldest if exact else (),
        exact=exact,
        need=group.oldest[0] if group.oldest else group.unread,
        states={
            state: base64.b64encode(value).decode()
            for (subscription, state), value in sorted(stream.states.items())
            if subscription == name
        },
    )


def _new_id(at_us: int, parent: str | None) -> str:
    """Ids are in the order in which checkpoints were taken, whatever the server's clock does."""
    at = datetime.fromtimestamp(at_us / 1e6, UTC)
    if parent is not None and f"{at:{_ID_TIME}}" <= parent[:_ID_DIGITS]:
        at = datetime.strptime(parent[:_ID_DIGITS], _ID_TIME) + timedelta(microseconds=1)
    return f"{at:{_ID_TIME}}Z-{os.urandom(2).hex()}"


def _schema(event_type: str) -> int | None:
    cls = known_class(event_type)
    return None if cls is None else cls.schema_version


def _settings(settings: Settings) -> dict[str, Any]:
    bus = settings.event_bus
    return {
        "event_bus.idempotency_window": bus.idempotency_window,
        "event_bus.max_queue_size": bus.max_queue_size,
        "event_bus.handler_timeout": bus.handler_timeout,
        "redis.stream_max_length": settings.redis.stream_max_length,
    }
