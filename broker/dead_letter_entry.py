"""One dead letter as it is read: what stands in its stream, and what follows from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dramatiq.message import get_encoder

from .digests import digest_without_error

__all__ = ["CAUSES", "DeadLetterEntry", "letter_from", "place_of"]

#: Every cause that a dead letter may have.
CAUSES = ("failed", "undecodable", "skipped", "killed_worker", "uncertain")


@dataclass(frozen=True, slots=True)
class DeadLetterEntry:
    """One dead letter.

    Parameters:
      dead_id: Its id in the dead-letter stream: the server's clock when it was given up, ms, and a
        number.
      source: The stream it came from, as people call it.
      entry_id: Its id there.
      data: The payload, byte for byte.
      cause: `undecodable`, `failed` (retries exhausted, or no such actor), `skipped` (refused by a
        middleware), `killed_worker`, `uncertain` (nobody knows whether what its business key stands
        for was done).
      error: What was raised, as `Type: text`.
      traceback: The end of its traceback; may be empty.
      attempts: How often it was run.
      consumer: Who ran it last.
      at_ms: When it was given up, ms UTC, by the clock of the process that gave it up.
      digest: The same for letters of the same bug.
      queue: The work queue or subscription that gave it up.
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
    digest: str = ""
    queue: str = ""

    @property
    def id(self) -> str:
        """Its name within its queue: `MS-N` in a work queue, `TYPE:PART/MS-N` in a subscription."""
        place = place_of(self.source)
        return f"{place}/{self.dead_id}" if place else self.dead_id

    @property
    def is_event(self) -> bool:
        """Whether it is an event of a log; else a message of a work queue."""
        return self.source.startswith("log:")

    @property
    def died_ms(self) -> int:
        """When it was given up, ms UTC, by the server's clock."""
        return int(self.dead_id.partition("-")[0])

    @property
    def subject(self) -> str:
        """The event's type, or the message's actor; empty where the message cannot be decoded."""
        if self.is_event:
            return self.source.split(":")[1]
        body = self.body()
        name = body.get("actor_name") if body else None
        return name if isinstance(name, str) else ""

    def body(self) -> dict[str, Any] | None:
        """The event or message as fields and values; None if it cannot be decoded.

        No event class is needed. Messages are decoded by Dramatiq's encoder of this process.
        """
        try:
            found = json.loads(self.data) if self.is_event else get_encoder().decode(self.data)
        except Exception:  # noqa: BLE001 - a user's own encoder may raise anything
            return None
        return found if isinstance(found, dict) else None

    @property
    def event_id(self) -> bytes:
        """16 bytes of the event's id; empty for a message, and where it cannot be read."""
        body = self.body() if self.is_event else None
        try:
            return UUID(str(body["id"])).bytes if body else b""
        except (KeyError, ValueError):
            return b""

    def fresh_data(self) -> bytes | None:
        """The message without the state of its retries, so that it runs as if for the first time;
        None where there is nothing to drop, or it cannot be decoded and encoded again."""
        body = None if self.is_event else self.body()
        options = body.get("options") if body else None
        if body is None or not isinstance(options, dict) or not RETRY_STATE & options.keys():
            return None
        kept = {name: value for name, value in options.items() if name not in RETRY_STATE}
        try:
            return get_encoder().encode({**body, "options": kept})
        except Exception:  # noqa: BLE001 - a user's own encoder may raise anything
            return None


#: Message options in which Dramatiq's Retries keeps what happened so far.
RETRY_STATE = frozenset({"retries", "traceback", "requeue_timestamp"})


def place_of(source: str) -> str:
    """What tells apart the dead-letter streams of one subscription: `TYPE:PART`; a work queue has
    one stream only, and the place is empty."""
    return source.removeprefix("log:") if source.startswith("log:") else ""


def letter_from(queue: str, dead_id: bytes, flat: Sequence[bytes]) -> DeadLetterEntry:
    """The dead letter of `queue` that stands in a stream entry."""
    fields = dict(zip(flat[::2], flat[1::2], strict=True))

    def text(name: bytes) -> str:
        return fields.get(name, b"").decode("utf-8", "replace")

    cause, error = text(b"cause"), text(b"error")
    return DeadLetterEntry(
        dead_id=dead_id.decode(),
        source=text(b"source"),
        entry_id=text(b"entry"),
        data=fields.get(b"data", b""),
        cause=cause,
        error=error,
        traceback=text(b"traceback"),
        attempts=int(text(b"attempts") or 0),
        consumer=text(b"consumer"),
        at_ms=int(text(b"at") or 0),
        digest=text(b"digest") or digest_without_error(cause, error),
        queue=queue,
    )
