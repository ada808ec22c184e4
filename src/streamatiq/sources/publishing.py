"""What ingest asks of a publisher; `Logs.publish_many` is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ..events import Event

__all__ = ["Publish", "PublishReceipt"]


class PublishReceipt(Protocol):
    """What became of one published event."""

    @property
    def duplicate(self) -> bool:
        """True if an event of the same id was there before, so that nothing was stored."""


class Publish(Protocol):
    """Stores events and returns their receipts in the same order."""

    def __call__(self, events: Sequence[Event], /) -> Sequence[PublishReceipt]: ...
