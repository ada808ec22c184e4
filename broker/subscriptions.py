"""Subscriptions as the broker knows them: which logs, and from where a new one reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..events import Event, Lane, Partitioned
from .keys import LANES, Keys
from .parts import parts
from .sources import AuditLevel, Source

__all__ = ["OnReplay", "Start", "Subscription"]

#: Where a subscription that is new begins: at events published from now on, or at the oldest kept.
Start = Literal["new", "earliest"]
#: What it does with replayed events.
OnReplay = Literal["run", "skip", "dry_run"]


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription: an actor, a queue and a consumer group, all of this name.

    Parameters:
      event_classes: What it handles.
      start: Where it begins if it is new.
      ordered: One process at a time owns a partition, and the events of a key run one by one.
      in_line: All events of a partition run one by one, whatever their keys; with `ordered` only.
      conflate: A slow handler skips to the newest event of each key; implies ownership.
      batch: Events that the handler gets at a time, at most; None: it gets one, not a list.
      linger_ms: How long an event may wait for others of its batch.
      valid_for_ms: How long after its publishing an event is still worth handling; None: for ever,
        or as long as the event says.
      runs_when_halted: A halt does not stop it.
      done_ms: How long done marks are kept at least; 0: for ever; None: the broker's window.
      priority: Of the actor within a process; lower runs, and is settled, first.
      on_replay: What it does with replayed events.
      transform: Maps an event before the handler sees it; None from it: the event is not wanted.
    """

    name: str
    event_classes: Sequence[type[Event]]
    start: Start
    ordered: bool = False
    in_line: bool = False
    conflate: bool = False
    batch: int | None = None
    linger_ms: int = 0
    valid_for_ms: int | None = None
    runs_when_halted: bool = False
    done_ms: int | None = None
    priority: int = 0
    transform: Callable[[Any], Event | None] | None = None
    on_replay: OnReplay = "run"

    @property
    def is_owned(self) -> bool:
        """Whether its partitions have owners."""
        return self.ordered or self.conflate

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
                ordered=self.is_owned,
                in_line=self.in_line,
                done_ms=self.done_ms,
                priority=self.priority,
            )
            for cls in self.event_classes
            for part in parts(cls.log)
        ]
