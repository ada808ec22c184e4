"""Cancelled messages: found among those that were claimed, before they are handed out."""

from __future__ import annotations

from collections.abc import Sequence

from .claimed import Claimed
from .connections import Link
from .payloads import decode_message

__all__ = ["without_cancelled"]


def without_cancelled(
    link: Link, key: str, claimed: Sequence[Claimed]
) -> tuple[list[Claimed], list[Claimed]]:
    """Splits what was claimed into what may run and what was cancelled.

    Messages are decoded for it, and carry that along; what is no message may run, and is found to
    be none there.

    Parameters:
      key: The queue's cancelled message ids.

    Raises:
      BrokerError: The server cannot be reached or refused. What was claimed stays pending, and is
        found by the comparison of pending entries.
    """
    messages: list[Claimed] = []
    ids: list[bytes] = []
    for one in claimed:
        decoded = decode_message(one)
        messages.append(one._replace(decoded=decoded))
        # A foreign id may hold half of a surrogate pair: no reason to stop the queue.
        message_id = str(decoded.get("message_id")) if decoded else ""
        ids.append(message_id.encode("utf-8", "surrogatepass"))
    scores = link.send("ZMSCORE", key, *ids)
    runs = [one for one, score in zip(messages, scores, strict=True) if score is None]
    return runs, [one for one, score in zip(messages, scores, strict=True) if score is not None]
