"""An entry that this process has claimed and not begun."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..events import Event
from .guard_state import Subject
from .in_flight import Held
from .reservations import Reservation
from .settlements import Action
from .sources import Source

__all__ = ["Claimed"]


class Claimed(NamedTuple):
    """An entry that this process holds."""

    source: Source
    consumer: str
    entry_id: bytes
    #: Field, value, ...; empty: it waited for so long that only its id was kept.
    fields: list[bytes]
    #: Retry state, where it was parked before.
    options: bytes | None
    claimed_ns: int
    #: Before entries of a higher lane: its own was passed over for long.
    aged: bool = False
    #: A message that had to be looked into already.
    decoded: dict[str, Any] | None = None
    #: An event that had to be looked into already, and its key.
    event: Event | None = None
    key: str | None = None
    #: Most entries of a batch that it may be a part of; 0: as many as the handler takes.
    cap: int = 0
    #: What it is for the guards, once that was asked.
    subject: Subject | None = None
    #: Its business key, where it was reserved before it came back here, or ahead of its run.
    reserved: Reservation | None = None
    #: When it was reserved ahead, s, monotonic clock; inf: it was not ahead.
    reserved_s: float = math.inf
    #: How it ends, where that is known before anybody has run it.
    ending: Action | None = None

    @property
    def held(self) -> Held:
        """The entry, as `InFlight` knows it."""
        return (self.source.keys.entries, self.source.group, self.consumer, self.entry_id)

    @property
    def order_key(self) -> str | None:
        """What runs one after the other: its key, or the whole partition; None: it has no key."""
        return "" if self.key is not None and self.source.in_line else self.key

    def bare(self) -> Claimed:
        """Its id alone, and what cannot be read again."""
        return self._replace(fields=[], event=None, decoded=None)
