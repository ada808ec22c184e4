"""Subscriptions as the broker knows them: which logs, and from where a new one reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..events import Event, Lane, Partitioned
from .keys import LANES, Keys
from .parts import parts
from .sources import AuditLevel, Source

__all__ = ["Start", "Subscription"]

#: Where a subscription that is new begins: at events published from now on, or at the oldest kept.
Start = Literal["new", "earliest"]


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription: an actor, a queue and a consumer group, all of this name."""

    name: str
    event_classes: Sequence[type[Event]]
    start: Start

    @property
    def group_start(self) -> str:
        """The entry id to give XGROUP CREATE."""
        return "$" if self.start == "new" else "0"

    @property
    def rotates(self) -> bool:
        """Partitions and types take turns; the lanes of a single laned log do not."""
        return len(self.event_classes) > 1 or isinstance(self.event_classes[0].log, Partitioned)

    def sources(
        self, keys: Keys, audit: dict[str, AuditLevel], default: AuditLevel
    ) -> list[Source]:
        """One source for each partition or lane of each type."""
        return [
            Source(
                name=f"log:{cls.event_type}:{part}",
                group=self.name,
                keys=keys.log(cls.event_type, part).subscription(self.name),
                event_class=cls,
                lane_target=None,
                audit=audit.get(cls.event_type, default),
                lane=1 if isinstance(cls.log, Partitioned) else LANES.index(Lane(part)),
            )
            for cls in self.event_classes
            for part in parts(cls.log)
        ]
