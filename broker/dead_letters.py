"""Dead letters: what could not be handled, with its cause, its bytes and its origin.

Each subscription and stream, and each work queue, has a dead-letter stream. Nothing leaves it by
itself.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from .delivery import Delivery
from .settlements import DeadLetter
from .sources import Source

__all__ = ["DeadLetterEntry", "dead_letter", "read_dead_letters", "undecodable"]

#: Longest error text and traceback kept, characters.
MAX_TEXT = 4_000
#: Entries of one read.
PAGE = 100


@dataclass(frozen=True, slots=True)
class DeadLetterEntry:
    """One dead letter.

    Parameters:
      dead_id: Its id in the dead-letter stream.
      source: The stream it came from, as people call it.
      entry_id: Its id there.
      data: The payload, byte for byte.
      cause: `undecodable`, `failed` (retries exhausted, or no such actor), `skipped` (refused by a
        middleware), `killed_worker`.
      error: What was raised, as `Type: text`.
      traceback: The end of its traceback; may be empty.
      attempts: How often it was run.
      consumer: Who ran it last.
      at_ms: When it was given up, ms UTC.
    """

    dead_id: str
    source: str
    entry_id: str
    data: bytes
    cause: str
    error: str
    traceback: str
    attempts: int
    consumer: str
    at_ms: int


def _fields(
    *,
    source: Source,
    entry_id: bytes,
    data: bytes,
    cause: str,
    error: BaseException | None,
    not_enqueued: BaseException | None = None,
    attempts: int,
    consumer: str,
) -> DeadLetter:
    text = "" if error is None else f"{type(error).__name__}: {error}"
    if not_enqueued is not None:
        text += f" (and what should follow could not be enqueued: {not_enqueued})"
    trace = "" if error is None else "".join(traceback.format_exception(error))
    pairs: dict[str, Any] = {
        "source": source.name,
        "entry": entry_id,
        "data": data,
        "cause": cause,
        "error": _encoded(text[:MAX_TEXT]),
        "traceback": _encoded(trace[-MAX_TEXT:]),
        "attempts": attempts,
        "consumer": consumer,
        "at": time.time_ns() // 1_000_000,
    }
    return DeadLetter([part for pair in pairs.items() for part in pair])


def _encoded(text: str) -> bytes:
    """As UTF-8; what has no such form (half of a surrogate pair) is spelled out."""
    return text.encode("utf-8", "backslashreplace")


def dead_letter(delivery: Delivery, cause: str, error: BaseException | None) -> DeadLetter:
    """Ends `delivery` as a dead letter.

    Parameters:
      cause: One of the causes of `DeadLetterEntry`.
      error: What was raised, if anything.
    """
    return _fields(
        source=delivery.source,
        entry_id=delivery.entry_id,
        data=delivery.data,
        cause=cause,
        error=error,
        not_enqueued=delivery.failure,
        attempts=delivery.attempt if delivery.done_ns else delivery.attempt - 1,
        consumer=delivery.consumer,
    )


def undecodable(
    source: Source, consumer: str, entry_id: bytes, data: bytes, error: Exception
) -> DeadLetter:
    """Ends an entry that is no event, or no message, as a dead letter with its raw bytes."""
    return _fields(
        source=source,
        entry_id=entry_id,
        data=data,
        cause="undecodable",
        error=error,
        attempts=0,
        consumer=consumer,
    )


def read_dead_letters(client: redis.Redis, key: str) -> Iterator[DeadLetterEntry]:
    """The dead letters of one stream, oldest first, read page by page."""
    first = "-"
    while True:
        page: list[Any] = client.xrange(key, first, "+", PAGE)  # type: ignore[assignment]
        for dead_id, fields in page:
            yield DeadLetterEntry(
                dead_id=dead_id.decode(),
                source=fields[b"source"].decode(),
                entry_id=fields[b"entry"].decode(),
                data=fields[b"data"],
                cause=fields[b"cause"].decode(),
                error=fields[b"error"].decode(),
                traceback=fields[b"traceback"].decode(),
                attempts=int(fields[b"attempts"]),
                consumer=fields[b"consumer"].decode(),
                at_ms=int(fields[b"at"]),
            )
        if len(page) < PAGE:
            return
        first = "(" + page[-1][0].decode()
