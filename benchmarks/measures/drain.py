"""Drain: messages are enqueued while no worker runs; then the workers start.

The rate counts from the moment when every worker process has handled its first message (start-up
is left out) to the last message. Budget: one process five times RedisBroker's rate (aim: ten),
two processes 1.6 times one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..ledger import Ledger
from ..processes import ChildFailed
from ..results import Sample
from ..stage import Bench, CpuReading, Stage
from ..systems import System
from .base import NONE, Values, processes_case

__all__ = ["Drain", "drain_rates"]

#: Seconds that the last acknowledgements have before worker CPU is read.
_FLUSH_S = 0.1


@dataclass(frozen=True, slots=True)
class Drain:
    """Drain `messages` times the system's factor with some worker processes."""

    messages: int
    processes: int
    name = "drain"
    needs = NONE
    once = False

    @property
    def case(self) -> str:
        return processes_case(self.processes)

    def measure(self, bench: Bench, system: System, round_: int) -> Sample:
        total = self.messages * system.drain_factor
        with bench.stage(system, total) as stage:
            stage.enqueue(total, bulk=True)
            values, settled = self._drain(stage, total)
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

    def _drain(self, stage: Stage, total: int) -> tuple[Values, bool]:
        def all_at_work() -> bool:
            return len(stage.ledger.pids) >= self.processes or all_done()

        def all_done() -> bool:
            return stage.handled() == total

        with stage.start_workers(self.processes) as workers:
            stage.wait(workers, all_at_work)
            before = stage.read_cpu()
            stage.wait(workers, all_done)
            time.sleep(_FLUSH_S)
            after = stage.read_cpu()
            values = drain_rates(stage.ledger, self.processes) | _cpu(before, after)
            return values, stage.is_settled()


def drain_rates(ledger: Ledger, processes: int) -> Values:
    """Return the rates of a ledger whose messages have all been handled, none twice.

    Raises:
        ChildFailed: a worker process had no part in it, or came too late.
    """
    firsts: dict[int, int] = {}
    for handled_ns, worker in zip(ledger.handled, ledger.worker, strict=True):
        if handled_ns < firsts.get(worker, handled_ns + 1):
            firsts[worker] = handled_ns
    if len(firsts) < processes:
        raise ChildFailed(
            f"only {len(firsts)} of {processes} worker processes took part; ask for more messages"
        )
    all_at_work_ns, last_ns = max(firsts.values()), max(ledger.handled)
    counted = sum(1 for handled_ns in ledger.handled if handled_ns > all_at_work_ns)
    if not counted:
        raise ChildFailed("the last worker to start found nothing left; ask for more messages")
    seconds = (last_ns - all_at_work_ns) / 1e9
    whole_s = (last_ns - min(firsts.values())) / 1e9
    return {
        "rate_per_s": counted / seconds,
        "first_to_last_rate_per_s": (ledger.capacity - 1) / whole_s,
        "seconds": seconds,
    }


def _cpu(before: CpuReading, after: CpuReading) -> Values:
    count = after.handled - before.handled
    if not count:
        return {"worker_cpu_s_per_10k": None, "server_cpu_s_per_10k": None}
    workers: float | None = None
    if before.workers_s is not None and after.workers_s is not None:
        workers = (after.workers_s - before.workers_s) * 10_000 / count
    return {
        "worker_cpu_s_per_10k": workers,
        "server_cpu_s_per_10k": (after.server_s - before.server_s) * 10_000 / count,
    }
