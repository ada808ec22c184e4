"""Memory: what the server needs per message that waits. Budget: 450 bytes an event."""

from __future__ import annotations

from dataclasses import dataclass

from ..results import Sample
from ..stage import Bench
from ..systems import System
from .base import NONE, Values

__all__ = ["Memory"]


@dataclass(frozen=True, slots=True)
class Memory:
    """Read the server's memory before and after `messages` were enqueued."""

    messages: int
    name = "memory"
    needs = NONE
    once = False
    case = "queued"

    def measure(self, bench: Bench, system: System, round_: int) -> Sample:
        with bench.stage(system) as stage:
            before = bench.server.used_memory()
            stage.enqueue(self.messages, bulk=True)
            used = bench.server.used_memory() - before
        values: Values = {"bytes_per_message": used / self.messages}
        return Sample(round_, system.name, self.name, self.case, values, sent=self.messages)
