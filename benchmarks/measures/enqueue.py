"""Enqueue: messages a second from one producer, one by one and, where a system can, in bulk.

Budget: events one by one as fast as RedisBroker's enqueue, in bulk 0.4 times the floor's pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..apps.base import BULK_CALL
from ..results import Sample
from ..stage import Bench
from ..systems import System
from .base import NONE, Values

__all__ = ["Enqueue"]


@dataclass(frozen=True, slots=True)
class Enqueue:
    """Send `messages` from one producer while no worker runs."""

    messages: int
    bulk: bool
    name = "enqueue"
    once = False

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({BULK_CALL}) if self.bulk else NONE

    @property
    def case(self) -> str:
        return "in bulk" if self.bulk else "one by one"

    def measure(self, bench: Bench, system: System, round_: int) -> Sample:
        with bench.stage(system) as stage:
            seconds = stage.enqueue(self.messages, bulk=self.bulk)
        values: Values = {"rate_per_s": self.messages / seconds}
        return Sample(round_, system.name, self.name, self.case, values, sent=self.messages)
