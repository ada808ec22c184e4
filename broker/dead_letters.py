"""Dead letters as they are written: what could not be handled, with its cause, its bytes and its
origin.

Each subscription and stream, and each work queue, has a dead-letter stream. Nothing leaves it by
itself, unless `event_bus.dead_letter_ttl` says so. How they are read and managed:
`dead_letter_reading`, `dead_letter_admin`.
"""

from __future__ import annotations

import time
import traceback
from typing import Any

from .delivery import Delivery
from .digests import digest_of, digest_without_error
from .settlements import DeadLetter
from .sources import Source

__all__ = ["dead_letter", "undecodable"]

#: Longest error text and traceback kept, characters.
MAX_TEXT = 4_000


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
        "digest": digest_without_error(cause, "") if error is None else digest_of(error),
    }
    return DeadLetter([part for pair in pairs.items() for part in pair])


def _encoded(text: str) -> bytes:
    """As UTF-8; what has no such form (half of a surrogate pair) is spelled out."""
    return text.encode("utf-8", "backslashreplace")


def dead_letter(delivery: Delivery, cause: str, error: BaseException | None) -> DeadLetter:
    """Ends `delivery` as a dead letter.

    Parameters:
      cause: One of `dead_letter_entry.CAUSES`.
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
