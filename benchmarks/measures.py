"""The measures. Each is a case with its figures: `measure(bench, system, round)` gives one sample.

Drain     messages are enqueued while no worker runs; then the workers start. The rate counts
          from the moment when every worker process has handled its first message (start-up is
          left out) to the last message.
Enqueue   messages a second from one producer, one by one and, where a system can, in bulk.
Latency   from sending to the start of the handler, at a fixed rate, on an open-loop schedule.
Memory    what the server needs per message that waits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from .ledger import Ledger
from .load import percentile
from .processes import ChildFailed
from .producer import WARM_UP
from .results import Sample
from .stage import Bench, CpuReading, Stage
from .systems import System

__all__ = ["Drain", "Enqueue", "Latency", "Measure", "Memory"]

#: Seconds of paced load before the first message that counts, so that it meets a steady state.
_LEAD_IN_S = 1.0

#: Seconds that the last acknowledgements have before worker CPU is read.
_FLUSH_S = 0.1

#: Metric name, unit included, to figure; None: cannot be had on this machine.
Values = dict[str, float | None]


class Measure(Protocol):
    """One case of one measure."""

    @property
    def name(self) -> str:
        """Name of the measure, as `--only` takes it."""

    @property
    def case(self) -> str:
        """Which variant of it."""

    def measure(self, bench: Bench, system: System, round_: int) -> Sample:
        """Run it once.

        Raises:
            ChildFailed: the system could not run it to the end.
        """


@dataclass(frozen=True, slots=True)
class Drain:
    """Drain `messages` times the system's factor with some worker processes."""

    messages: int
    processes: int
    name = "drain"

    @property
    def case(self) -> str:
        return "1 process" if self.processes == 1 else f"{self.processes} processes"

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
            values = _drain_rates(stage.ledger, self.processes) | _cpu(before, after)
            return values, stage.is_settled()


@dataclass(frozen=True, slots=True)
class Enqueue:
    """Send `messages` from one producer while no worker runs."""

    messages: int
    bulk: bool
    name = "enqueue"

    @property
    def case(self) -> str:
        return "in bulk" if self.bulk else "one by one"

    def measure(self, bench: Bench, system: System, round_: int) -> Sample:
        with bench.stage(system) as stage:
            seconds = stage.enqueue(self.messages, bulk=self.bulk)
        values: Values = {"rate_per_s": self.messages / seconds}
        return Sample(round_, system.name, self.name, self.case, values, sent=self.messages)


@dataclass(frozen=True, slots=True)
class Latency:
    """Send at a rate for some seconds to one worker process that is warm."""

    rate_per_s: int
    seconds: float
    name = "latency"

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
                values=_latencies(stage.ledger, WARM_UP + lead_in),
                sent=total,
                handled=stage.handled(),
                duplicates=stage.ledger.duplicate_count(0, total),
                settled=settled,
            )


@dataclass(frozen=True, slots=True)
class Memory:
    """Read the server's memory before and after `messages` were enqueued."""

    messages: int
    name = "memory"
    case = "queued"

    def measure(self, bench: Bench, system: System, round_: int) -> Sample:
        with bench.stage(system) as stage:
            before = bench.server.used_memory()
            stage.enqueue(self.messages, bulk=True)
            used = bench.server.used_memory() - before
        values: Values = {"bytes_per_message": used / self.messages}
        return Sample(round_, system.name, self.name, self.case, values, sent=self.messages)


def _drain_rates(ledger: Ledger, processes: int) -> Values:
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


def _latencies(ledger: Ledger, first: int) -> Values:
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
