"""Latency: from sending to the start of the handler, at a fixed rate, on an open-loop schedule.

Budget at 1,000/s: p50 below 2.5 times the floor's, p99 below 3 times the floor's.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..ledger import Ledger
from ..load import percentile
from ..results import Sample
from ..sending import WARM_UP
from ..stage import Bench
from ..systems import System
from .base import NONE, Values

__all__ = ["Latency", "latencies"]

#: Seconds of paced load before the first message that counts, so that it meets a steady state.
_LEAD_IN_S = 1.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Send at a rate for some seconds to one worker process that is warm."""

    rate_per_s: int
    seconds: float
    name = "latency"
    needs = NONE
    once = False

    @property
    def case(self) -> str:
        return f"{self.rate_per_s:,}/s"

    def measure(self, bench: Bench, system: System, round_: int) -> Sample:
        lead_in = int(self.rate_per_s * _LEAD_IN_S)
        paced = lead_in + max(1, int(self.rate_per_s * self.seconds))
        total = WARM_UP + paced
        with bench.stage(system, total) as stage:
            stage.prepare()
            with stage.start_workers(1) as workers:
                stage.send_paced(workers, paced, self.rate_per_s)
                stage.wait(workers, lambda: stage.handled() == total)
                settled = stage.is_settled()
            return Sample(
                round=round_,
                system=system.name,
                measure=self.name,
                case=self.case,
                values=latencies(stage.ledger, WARM_UP + lead_in),
                sent=total,
                handled=stage.handled(),
                duplicates=stage.ledger.duplicate_count(0, total),
                settled=settled,
            )


def latencies(ledger: Ledger, first: int) -> Values:
    """Return the latencies of the messages from number `first` on, all of them handled."""
    numbers = range(first, ledger.capacity)
    sent = sorted((ledger.handled[n] - ledger.sent[n]) / 1e6 for n in numbers)
    scheduled = sorted((ledger.handled[n] - ledger.scheduled[n]) / 1e6 for n in numbers)
    late = sorted((ledger.sent[n] - ledger.scheduled[n]) / 1e6 for n in numbers)
    values: Values = {}
    for prefix, ascending in (("", sent), ("scheduled_", scheduled)):
        for share in (50, 90, 99):
            values[f"{prefix}p{share}_ms"] = percentile(ascending, share / 100)
        values[f"{prefix}max_ms"] = ascending[-1]
    values["generator_late_p99_ms"] = percentile(late, 0.99)
    return values
