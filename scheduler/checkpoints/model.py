"""A checkpoint as a value, and as it is stored: JSON with a checksum."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from ...errors import CheckpointDamaged

__all__ = ["FORMAT", "Checkpoint", "CheckpointInfo", "LogEnd", "Position", "checksum", "decode"]

#: Version of the stored form.
FORMAT = 1


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LogEnd(_Value):
    """One stream of a log.

    Attributes:
      last: Id of the newest entry there ever was.
      added: Entries that were ever added.
      length: Entries that were there.
      first: Id of the oldest of them; empty: there was none.
    """

    last: str
    added: int
    length: int
    first: str


class Position(_Value):
    """Where a subscription stood on one stream.

    Attributes:
      safe: Just below its oldest pending entry, else `last`.
      last: The last entry that it was given.
      read: Entries up to there, ever; None: the server did not know.
      pending: Entries that it was given and had not settled, in order.
      exact: Whether these are all; else a restore begins behind `safe`.
      need: The first entry that would run after a restore; empty: there was none yet.
      states: The handler's states by name: token and bytes, in base64.
    """

    safe: str
    last: str
    read: int | None
    pending: tuple[str, ...]
    exact: bool
    need: str
    states: dict[str, str]

    def state_bytes(self) -> dict[str, bytes]:
        """The states as the server keeps them."""
        return {name: base64.b64decode(text) for name, text in self.states.items()}


class CheckpointInfo(_Value):
    """What a list shows of a checkpoint.

    Attributes:
      id: Begins with its time.
      at_us: The server's clock when it was taken, us.
      reason, by: Why, and who took it.
      parent: The newest one before it; None: there was none.
      subscriptions, streams: How many it holds.
      states: Handlers' states that it holds.
      size: Bytes.
      checksum: SHA-256 of its body as canonical JSON.
    """

    id: str
    at_us: int
    reason: str
    by: str
    parent: str | None
    subscriptions: int
    streams: int
    states: int
    size: int
    checksum: str

    @property
    def at(self) -> datetime:
        """When it was taken, the server's clock, UTC."""
        return datetime.fromtimestamp(self.at_us / 1e6, UTC)


class Checkpoint(_Value):
    """A cut through all subscriptions of a namespace.

    Attributes:
      v: Version of the form.
      id, at_us, reason, by, parent: As of `CheckpointInfo`.
      namespace: Whose it is.
      moments: Script calls in which the positions were read; each is one moment of the server.
      layouts: Of each log, by event type.
      logs: Of each stream of a log (`TYPE:PART`) its end.
      subscriptions: Where each stood, by name and stream.
      breakers, halts: All that was stopped, by name or scope. A restore does not touch them.
      schemas: The version of each event type that this process knew; None: it did not know it.
      settings: Those that decide what a restore means.
    """

    v: Literal[1] = 1
    id: str
    at_us: int
    reason: str
    by: str
    parent: str | None
    namespace: str
    moments: int
    layouts: dict[str, str]
    logs: dict[str, LogEnd]
    subscriptions: dict[str, dict[str, Position]]
    breakers: dict[str, dict[str, Any]]
    halts: dict[str, dict[str, Any]]
    schemas: dict[str, int | None]
    settings: dict[str, Any]

    @property
    def at(self) -> datetime:
        """When it was taken, the server's clock, UTC."""
        return datetime.fromtimestamp(self.at_us / 1e6, UTC)

    def encode(self) -> tuple[bytes, CheckpointInfo]:
        """The stored form, and what a list shows of it."""
        body = self.model_dump(mode="json")
        digest = checksum(body)
        data = _canonical({"body": body, "checksum": digest})
        positions = [one for streams in self.subscriptions.values() for one in streams.values()]
        info = CheckpointInfo(
            id=self.id,
            at_us=self.at_us,
            reason=self.reason,
            by=self.by,
            parent=self.parent,
            subscriptions=len(self.subscriptions),
            streams=len(self.logs),
            states=sum(len(one.states) for one in positions),
            size=len(data),
            checksum=digest,
        )
        return data, info


def _canonical(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def checksum(body: Mapping[str, Any]) -> str:
    """SHA-256 of the body as canonical JSON: keys sorted, no blanks, UTF-8."""
    return hashlib.sha256(_canonical(body)).hexdigest()


def decode(checkpoint_id: str, data: bytes) -> Checkpoint:
    """Reads the stored form of checkpoint `checkpoint_id`.

    Raises:
      CheckpointDamaged: It is not what was stored, or was stored by a later release.
    """
    advice = "Restore another one; `streamatiq checkpoint verify` tells which are good."
    try:
        stored = from_json(data)
        body, digest = dict(stored["body"]), stored["checksum"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointDamaged(
            f"Checkpoint {checkpoint_id} cannot be read: {error}. {advice}"
        ) from error
    found = checksum(body)
    if found != digest:
        raise CheckpointDamaged(
            f"Checkpoint {checkpoint_id} was changed: its checksum is {digest!s:.16}..., and that "
            f"of what is stored {found:.16}.... {advice}"
        )
    if body.get("v") != FORMAT:
        raise CheckpointDamaged(
            f"Checkpoint {checkpoint_id} has form {body.get('v')!r}, and this release reads "
            f"{FORMAT}: it was taken by a later one. Use that one."
        )
    try:
        read = Checkpoint.model_validate(body)
    except ValidationError as error:
        raise CheckpointDamaged(
            f"Checkpoint {checkpoint_id} is none: {error.errors()[0]['msg']}. {advice}"
        ) from error
    if read.id != checkpoint_id:
        raise CheckpointDamaged(
            f"What is stored as checkpoint {checkpoint_id} is {read.id}. {advice}"
        )
    return read
