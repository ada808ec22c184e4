"""Checkpoints on the server: an index of what lists show, the bodies, and an audit."""

from __future__ import annotations

from operator import methodcaller
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from ...broker import checkpoint_scripts as scripts
from ...broker.connections import LinkPool
from ...broker.keys import CheckpointKeys
from ...errors import CheckpointNotFound
from ..exclusive import run
from .model import Checkpoint, CheckpointInfo, decode

__all__ = ["CheckpointStore", "audit_record"]

#: The name that means the newest one.
LATEST = "latest"


def audit_record(action: str, by: str, **what: Any) -> bytes:
    """One record of the audit. Its entry's id tells the time."""
    return to_json({"action": action, "by": by, **what})


class CheckpointStore:
    """The checkpoints of one namespace. Thread-safe.

    Parameters:
      links: Connections; every call is harmless to repeat.
      keys: Where they are.
    """

    def __init__(self, links: LinkPool, keys: CheckpointKeys) -> None:
        self._links = links
        self._keys = keys

    def add(self, checkpoint: Checkpoint) -> CheckpointInfo:
        """Stores one, with its line in the index and an audit record. Atomic."""
        data, info = checkpoint.encode()
        record = audit_record(
            "create", checkpoint.by, checkpoint=checkpoint.id, reason=checkpoint.reason
        )
        header = info.model_dump_json().encode()
        run(self._links, scripts.store(self._keys, checkpoint.id, header, data, record))
        return info

    def infos(self) -> list[CheckpointInfo]:
        """All, oldest first. A line that cannot be read is shown by its id alone."""
        flat = self._links.call(methodcaller("send", "HGETALL", self._keys.index))
        return [_info(name.decode(), text) for name, text in sorted(_pairs(flat))]

    def ids(self) -> list[str]:
        """The ids of all, oldest first."""
        names = self._links.call(methodcaller("send", "HKEYS", self._keys.index))
        return sorted(name.decode() for name in names)

    def get(self, checkpoint_id: str) -> Checkpoint:
        """One of them; `latest` means the newest.

        Raises:
          CheckpointNotFound: It is not there.
          CheckpointDamaged: It is not what was stored.
        """
        chosen = checkpoint_id
        if chosen == LATEST:
            ids = self.ids()
            if not ids:
                raise CheckpointNotFound(
                    "There is no checkpoint yet. `streamatiq checkpoint create --reason ...` takes "
                    "one."
                )
            chosen = ids[-1]
        data = self._links.call(methodcaller("send", "HGET", self._keys.bodies, chosen))
        if data is None:
            raise CheckpointNotFound(
                f"There is no checkpoint {chosen!r}: it was pruned, or belongs to another "
                "namespace. `streamatiq checkpoint list` shows those there are."
            )
        return decode(chosen, data)

    def prune(self, stays: str, ids: list[str], by: str) -> int:
        """Deletes `ids`, unless `stays` is gone; returns how many."""
        record = audit_record("prune", by, checkpoints=ids)
        return run(self._links, scripts.prune(self._keys, stays, record, ids))

    def note(self, record: bytes) -> None:
        """Adds to the audit."""
        run(self._links, scripts.note(self._keys, record))


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _info(name: str, text: bytes) -> CheckpointInfo:
    try:
        return CheckpointInfo.model_validate_json(text)
    except ValidationError:
        return CheckpointInfo(
            id=name,
            at_us=0,
            reason="(its line in the index cannot be read)",
            by="",
            parent=None,
            subscriptions=0,
            streams=0,
            states=0,
            size=0,
            checksum="",
        )
