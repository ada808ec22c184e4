"""Delays: how late messages start that were sent with a delay.

Each is delayed by a time of its own; it is due that much after the moment just before its send. A
second process has nothing to do, and must not make it worse. Budget: 20 ms late at p99, and never
early.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..apps.base import DELAYS, THREADS
from ..ledger import Ledger
from ..processes import ChildFailed
from ..results import Sample
from ..sending import WARM_UP
from ..stage import Bench
from ..systems import System
from .base import Values, percentiles, processes_case

__all__ = ["Delays", "lateness"]

#: Messages sent a second.
_RATE_PER_S = 200

#: Milliseconds that a message may start before it is due: due times are whole ms.
_EARLY_MS = 1.0


@dataclass(frozen=True, slots=True)
class Delays:
    """Send `messages` with random delays to warm worker processes."""

    messages: int
    processes: int
    name = "delays"
    needs = frozenset({DELAYS, THREADS})
    once = False

    @property
    def case(self) -> str:
        return processes_case(self.processes)

    def measure(self, bench: Bench, system: System, round_: int) -> Sample:
        total = WARM_UP + self.messages
        with bench.stage(system, total) as stage:
            with (
                stage.start_workers(self.processes) as workers,
                stage.load(
                    "delayed", WARM_UP, self.messages, _RATE_PER_S, warm_up=True
                ) as producer,
            ):
                stage.wait(workers, lambda: stage.handled() == total, producer)
                settled = stage.is_settled()
            return Sample(
                round=round_,
                system=system.name,
                measure=self.name,
                case=self.case,
                values=lateness(stage.ledger, WARM_UP),
                sent=total,
                handled=stage.handled(),
                duplicates=stage.ledger.duplicate_count(0, total),
                settled=settled,
            )


def lateness(ledger: Ledger, first: int) -> Values:
    """Return how late the messages from number `first` on started, all of them handled.

    Raises:
        ChildFailed: one started before it was due.
    """
    late_ms = [
        (handled - due) / 1e6
        for handled, due in zip(ledger.handled[first:], ledger.scheduled[first:], strict=True)
    ]
    if min(late_ms) < -_EARLY_MS:
        raise ChildFailed(f"a message started {-min(late_ms):.1f} ms before it was due")
    return percentiles(late_ms, "ms")
