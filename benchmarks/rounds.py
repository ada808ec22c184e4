"""The plan of a run: every case of every measure, each system in turn, round after round.

Systems are interleaved within a case, and each round starts with another system, so that a machine
that grows warm, or busy with something else, hits all of them alike.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from .measures import Drain, Enqueue, Latency, Measure, Memory
from .processes import ChildFailed
from .producer import BULK
from .results import Run, Sample
from .stage import Bench
from .systems import System
from .ticks import TICK_BYTES

__all__ = ["MEASURES", "Plan", "run_plan"]

#: Names of the measures, in the order of the tables.
MEASURES = ("drain", "enqueue", "latency", "memory")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and how much.

    Attributes:
        systems: the systems, in the order of the tables.
        measures: names from `MEASURES`.
        rounds: how often everything is measured.
        messages: drained per system (times its factor); all of it is sent in bulk, half of it for
            `memory`, a quarter of it one by one.
        processes: numbers of worker processes to drain with.
        threads: worker threads a process.
        rates_per_s: rates to measure latency at.
        seconds: how long each rate lasts.
    """

    systems: tuple[System, ...]
    measures: tuple[str, ...] = MEASURES
    rounds: int = 3
    messages: int = 20_000
    processes: tuple[int, ...] = (1, 2)
    threads: int = 8
    rates_per_s: tuple[int, ...] = (100, 1_000)
    seconds: float = 10.0

    def cases(self) -> list[Measure]:
        """Return what one round measures, in order."""
        n = self.messages
        cases: dict[str, list[Measure]] = {
            "drain": [Drain(n, count) for count in self.processes],
            "enqueue": [Enqueue(max(1, n // 4), bulk=False), Enqueue(n, bulk=True)],
            "latency": [Latency(rate, self.seconds) for rate in self.rates_per_s],
            "memory": [Memory(max(1, n // 2))],
        }
        return [case for name in MEASURES if name in self.measures for case in cases[name]]

    def settings(self) -> dict[str, Any]:
        """Return the plan as it is kept in the result file."""
        return {
            "systems": {system.name: system.title for system in self.systems},
            "drain_factors": {system.name: system.drain_factor for system in self.systems},
            "measures": list(self.measures),
            "rounds": self.rounds,
            "messages": self.messages,
            "processes": list(self.processes),
            "threads": self.threads,
            "rates_per_s": list(self.rates_per_s),
            "seconds": self.seconds,
            "tick_bytes": TICK_BYTES,
            "bulk": BULK,
        }


def run_plan(plan: Plan, bench: Bench, say: Callable[[str], None]) -> Run:
    """Run all of it; what fails is kept with its reason, and the run goes on.

    Args:
        plan: what to measure.
        bench: where.
        say: gets one line of progress per sample.
    """
    has_bulk: dict[str, bool] = {}
    unavailable: dict[str, str] = {}
    for system in plan.systems:
        try:
            with bench.stage(system) as stage:
                has_bulk[system.name] = bool(stage.prepare()["has_bulk"])
        except ChildFailed as failure:
            unavailable[system.name] = str(failure)
            say(f"{system.name} cannot run: {failure}")
    systems = [system for system in plan.systems if system.name in has_bulk]
    samples: list[Sample] = []
    for round_ in range(plan.rounds):
        shift = round_ % max(1, len(systems))
        for case in plan.cases():
            for system in systems[shift:] + systems[:shift]:
                if isinstance(case, Enqueue) and case.bulk and not has_bulk[system.name]:
                    continue
                started = time.monotonic()
                sample = _take(case, bench, system, round_)
                samples.append(sample)
                took_s = time.monotonic() - started
                say(f"[{round_ + 1}/{plan.rounds}] {_brief(sample)} ({took_s:.0f} s)")
    return Run(_machine(bench), plan.settings(), unavailable, samples)


def _take(case: Measure, bench: Bench, system: System, round_: int) -> Sample:
    try:
        return case.measure(bench, system, round_)
    except ChildFailed as failure:
        return Sample(round_, system.name, case.name, case.case, error=str(failure))


def _brief(sample: Sample) -> str:
    where = f"{sample.measure} {sample.case}: {sample.system}"
    if sample.error is not None:
        return f"{where} FAILED: {sample.error}"
    name, value = next(iter(sample.values.items()))
    return f"{where} {name} {value:,.2f}"


def _machine(bench: Bench) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "dramatiq": version("dramatiq"),
        "redis_py": version("redis"),
        "measured_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        **bench.server.describe(),
    }
