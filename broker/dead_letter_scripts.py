"""One typed function a script that manages dead letters, as in `scripts`.

Each letter's outcome is one of

- `requeued`, `purged`: done;
- `gone`: it is no dead letter any more, somebody was faster;
- `trimmed`, `pending`, `no_group`: it was kept, for the reason that `requeue_event.lua` tells.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .calls import Call, script
from .dead_letter_entry import DeadLetterEntry
from .keys import LANES, QueueKeys, SourceKeys

__all__ = ["expire", "purge", "requeue_events", "requeue_messages"]


def _outcomes(reply: Any) -> list[str]:
    return [outcome.decode() for outcome in reply]


def _token() -> str:
    return os.urandom(8).hex()


def requeue_messages(
    keys: SourceKeys, by: str, letters: Sequence[DeadLetterEntry]
) -> Call[list[str]]:
    """Puts letters of one work queue back into their lanes. Harmless to repeat."""
    queue = QueueKeys(keys.tag)
    numbers = {lane.value: number for number, lane in enumerate(LANES, start=1)}
    args: list[Any] = [by]
    for letter in letters:
        lane = numbers.get(letter.source.rpartition(":")[2], 2)
        message_id = (letter.body() or {}).get("message_id", "")
        known_as = str(message_id).encode("utf-8", "surrogatepass")
        args += (letter.dead_id, lane, known_as, letter.fresh_data() or b"")
    return Call(
        script("requeue_message"),
        (
            keys.dead,
            keys.audit,
            keys.operator(_token()),
            queue.cancelled,
            *(queue.entries(lane) for lane in LANES),
        ),
        args,
        _outcomes,
    )


def requeue_events(
    keys: SourceKeys, group: str, by: str, letters: Sequence[DeadLetterEntry]
) -> Call[list[str]]:
    """Makes letters of one subscription and stream pending again. Harmless to repeat."""
    args: list[Any] = [by, group]
    for letter in letters:
        args += (letter.dead_id, letter.entry_id, letter.event_id)
    return Call(
        script("requeue_event"),
        (
            keys.dead,
            keys.audit,
            keys.operator(_token()),
            keys.entries,
            keys.parked,
            keys.options,
            keys.done,
            keys.done_old,
            keys.wake,
        ),
        args,
        _outcomes,
    )


def purge(keys: SourceKeys, by: str, letters: Sequence[DeadLetterEntry]) -> Call[list[str]]:
    """Deletes letters of one stream. Harmless to repeat."""
    return Call(
        script("purge"),
        (keys.dead, keys.audit, keys.operator(_token())),
        (by, *(letter.dead_id for letter in letters)),
        _outcomes,
    )


def expire(keys: SourceKeys, by: str, ttl_ms: int, page: int) -> Call[int]:
    """Deletes at most `page` letters of one stream that are older than `ttl_ms`."""
    return Call(script("expire"), (keys.dead, keys.audit), (ttl_ms, page, by), int)
