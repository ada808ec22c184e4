"""A source: one stream as one group reads and settles it.

A subscription reads every partition or lane of its event types; a work queue reads its three
lanes. Sources are compared by identity: there is one object a stream, group and process.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..events import Event
from .keys import SourceKeys
from .scripts import EnqueueTarget

__all__ = ["AuditLevel", "Source"]


class AuditLevel(StrEnum):
    """How much the audit record of a settled batch tells."""

    FULL = "full"
    COUNTS = "counts"
    OFF = "off"


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One stream, read by one group.

    Parameters:
      name: What people call it: `queue:default:high`, `log:order:0`.
      group: The consumer group; also the Dramatiq queue's name.
      keys: The keys that reading and settling touch.
      event_class: Type of a log's events; None for a work queue.
      lane_target: For a work queue: where a retried message is added; None for a log.
      audit: How much its audit records tell.
      lane: 0 high, 1 normal, 2 low: which of the entries that a process holds is run first.
      ordered: Whether one consumer at a time owns it, and runs the events of a key one by one.
      in_line: Whether all events of it run one by one, whatever their keys.
      done_ms: How long done marks are kept at least; 0: for ever; None: the broker's window.
      priority: Where many deliveries wait to be settled, lower ones go first.
    """

    name: str
    group: str
    keys: SourceKeys
    event_class: type[Event] | None
    lane_target: EnqueueTarget | None
    audit: AuditLevel
    lane: int = 1
    ordered: bool = False
    in_line: bool = False
    done_ms: int | None = None
    priority: int = 0

    @property
    def is_log(self) -> bool:
        """Entries of a log are kept when settled, and leave a done mark."""
        return self.event_class is not None
