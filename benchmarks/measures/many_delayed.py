"""Many delayed messages: what a queue full of them costs, and what happens when many become due.

One worker process is looked at twice in the same way (idle for a while, then a paced load):
with none, and with all of them waiting for tomorrow. Then a tenth as many more become due at one
moment; the rate counts from that moment to the last handler, or until the measure gives up waiting.
Budget: the worker's memory and its latency, and the commands/s of an idle one, are those with none.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..apps.base import DELAYS, THREADS
from ..ledger import Ledger
from ..processes import ChildFailed, Workers
from ..results import Sample
from ..sending import WARM_UP
from ..stage import Bench, Stage
from ..systems import System
from .base import Values, share_of
from .idle import commands_per_s, latency

__all__ = ["ManyDelayed", "due_rate"]

#: Messages sent a second, to see the latency of normal ones.
_RATE_PER_S = 100.0

#: How long such a load lasts, as a share of the time with nothing to do.
_PACED = 1 / 6

#: Seconds between two looks at the ledger.
_POLL_S = 0.02

#: Seconds after the last message until a worker counts as idle.
_CALM_S = 1.0


@dataclass(frozen=True, slots=True)
class _Look:
    """One worker with so many delayed messages: bytes, commands a second when idle, latency."""

    worker_bytes: int | None
    commands_per_s: float
    latency: Values


@dataclass(frozen=True, slots=True)
class ManyDelayed:
    """Fill a queue with `messages` delayed ones; `at_once` more become due at one moment."""

    messages: int
    at_once: int
    idle_s: float
    give_up_s: float
    name = "many-delayed"
    needs = frozenset({DELAYS, THREADS})
    once = True

    @property
    def case(self) -> str:
        return f"{self.messages:,}"

    def measure(self, bench: Bench, system: System, round_: int) -> Sample:
        delayed, at_once = share_of(self.messages, system), share_of(self.at_once, system)
        paced = max(1, round(_RATE_PER_S * self.idle_s * _PACED))
        first_due = WARM_UP + 2 * paced
        first_delayed = first_due + at_once
        with bench.stage(system, first_delayed + delayed) as stage:
            with stage.start_workers(1) as workers:
                stage.warm_up(workers)
                without = self._look(stage, workers, WARM_UP, paced)
                before = bench.server.used_memory()
                seconds = stage.fill(first_delayed, delayed)
                used = bench.server.used_memory() - before
                full = self._look(stage, workers, WARM_UP + paced, paced)
                with stage.load("together", first_due, at_once) as producer:
                    stage.wait(workers, producer.ended, producer)
                    producer.result()
                in_time = self._wait(stage, workers, first_due, first_delayed)
                given_up_ns = time.monotonic_ns()
                settled = stage.is_settled(delayed=delayed) if in_time else None
            if early := stage.ledger.handled_count(first_delayed, first_delayed + delayed):
                raise ChildFailed(f"{early} messages that are due tomorrow were handled")
            values: Values = {
                "fill_per_s": delayed / seconds,
                "bytes_per_message": used / delayed,
                **_compared(without, full),
                "due_per_s": due_rate(stage.ledger, first_due, first_delayed, given_up_ns),
            }
            must = in_time or system.in_time
            return Sample(
                round=round_,
                system=system.name,
                measure=self.name,
                case=self.case,
                values=values,
                sent=first_delayed,
                handled=stage.handled() if must else None,
                duplicates=stage.ledger.duplicate_count(0, first_delayed),
                settled=settled,
            )

    def _wait(self, stage: Stage, workers: Workers, first: int, last: int) -> bool:
        """Wait until what is due has been handled; False if that takes too long."""
        give_up_ns = stage.ledger.scheduled[first] + round(self.give_up_s * 1e9)
        while stage.ledger.handled_count(first, last) < last - first:
            workers.check()
            if time.monotonic_ns() > give_up_ns:
                return False
            time.sleep(_POLL_S)
        return True

    def _look(self, stage: Stage, workers: Workers, first: int, paced: int) -> _Look:
        time.sleep(_CALM_S)
        commands = commands_per_s(stage, self.idle_s * stage.system.idle_share)
        with stage.load("paced", first, paced, _RATE_PER_S) as producer:
            stage.wait(workers, lambda: stage.handled() == first + paced, producer)
        return _Look(stage.worker_bytes(), commands, latency(stage.ledger, first, first + paced))


def _compared(without: _Look, full: _Look) -> Values:
    growth: float | None = None
    if without.worker_bytes and full.worker_bytes:
        growth = full.worker_bytes / without.worker_bytes
    p50_ms, p50_without_ms = full.latency["p50_ms"], without.latency["p50_ms"]
    assert p50_ms is not None
    assert p50_without_ms is not None
    return {
        "worker_growth": growth,
        "more_commands_per_s": full.commands_per_s - without.commands_per_s,
        "p50_ms": p50_ms,
        "p99_ms": full.latency["p99_ms"],
        "p50_growth": p50_ms / p50_without_ms,
    }


def due_rate(ledger: Ledger, first: int, last: int, given_up_ns: int) -> float:
    """Return the rate at which messages were handled that were all due at one moment.

    If some were not handled: the rate until the measure gave up, which may be 0.
    """
    handled_ns = [moment for moment in ledger.handled[first:last] if moment]
    end_ns = max(handled_ns) if len(handled_ns) == last - first else given_up_ns
    return len(handled_ns) / ((end_ns - ledger.scheduled[first]) / 1e9)
