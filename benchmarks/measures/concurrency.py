"""Concurrency: handlers that sleep 10 ms, in one process with many threads.

The ideal is every thread asleep all the time: threads / 10 ms. The share of it says what the broker
and Dramatiq's own loop cost. The messages are there before the worker starts.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..apps.base import THREADS
from ..results import Sample
from ..stage import Bench
from ..systems import System
from .base import Values
from .drain import drain_rates

__all__ = ["Concurrency", "ideal_per_s"]

#: How long a handler sleeps.
_WORK_MS = 10.0


@dataclass(frozen=True, slots=True)
class Concurrency:
    """As many messages as `threads` could ideally handle in `seconds`."""

    threads: int
    seconds: float
    name = "concurrency"
    needs = frozenset({THREADS})
    once = False

    @property
    def case(self) -> str:
        return f"10 ms, {self.threads} threads"

    def measure(self, bench: Bench, system: System, round_: int) -> Sample:
        total = max(2 * self.threads, round(ideal_per_s(self.threads) * self.seconds))
        with bench.stage(system, total, work_ms=_WORK_MS) as stage:
            stage.enqueue(total, bulk=True)
            with stage.start_workers(1, threads=self.threads) as workers:
                stage.wait(workers, lambda: stage.handled() == total)
                settled = stage.is_settled()
            rates = drain_rates(stage.ledger, 1)
            rate_per_s = rates["rate_per_s"]
            assert rate_per_s is not None
            values: Values = {
                "rate_per_s": rate_per_s,
                "share_of_ideal": rate_per_s / ideal_per_s(self.threads),
            }
            return Sample(
                round=round_,
                system=system.name,
                measure=self.name,
                case=self.case,
                values=values,
                sent=total,
                handled=stage.handled(),
                duplicates=stage.ledger.duplicate_count(0, total),
                settled=settled,
            )


def ideal_per_s(threads: int) -> float:
    """Return the handlers a second that so many threads run if they do nothing else."""
    return threads * 1000 / _WORK_MS
