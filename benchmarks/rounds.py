"""The plan of a run: every case of every measure, each system in turn, round after round.

Long measures are taken in the first round only; a measure that gave up on a system is not repeated
for it, and one that a system has no ability for is left out for it.

Systems are interleaved within a case, and each round starts with another system, so that a machine
that grows warm, or busy with something else, hits all of them alike.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from .measures import (
    Concurrency,
    Delays,
    Drain,
    Endurance,
    Enqueue,
    Flood,
    Idle,
    Latency,
    ManyDelayed,
    Measure,
    Memory,
    Recovery,
)
from .processes import ChildFailed
from .results import Run, Sample
from .sending import BULK
from .stage import Bench
from .systems import System
from .ticks import TICK_BYTES

__all__ = ["FULL", "MEASURES", "QUICK", "Plan", "Sizes", "run_plan"]

#: Names of the measures, in the order of the tables.
MEASURES = (
    *("drain", "enqueue", "latency", "memory", "delays", "recovery", "concurrency"),
    *("flood", "endurance", "idle", "many-delayed"),
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each measure that has no option of its own.

    Attributes:
        delayed: messages with a delay.
        delayed_processes: numbers of worker processes to deliver them with.
        kill_after_s: seconds of load before a worker is killed.
        give_up_s: seconds after which its messages, or those that are due, are not waited for any
            longer.
        concurrent_threads: numbers of threads with handlers that sleep.
        concurrent_s: seconds that they would ideally take.
        flood_s: seconds of orders, in each variant of the flood.
        endurance: messages for one worker to handle, times a system's share.
        idle_queues: numbers of queues of an idle worker.
        idle_s: seconds with nothing to do, times a system's share; half of it with several queues.
        wake_ups: single messages to an idle worker.
        many_delayed: delayed messages that fill a queue, times a system's share.
        due_at_once: delayed messages that become due at one moment, times a system's share.
        many_delayed_idle_s: seconds with nothing to do, with and without them, times a share.
    """

    delayed: int
    kill_after_s: float
    give_up_s: float
    concurrent_s: float
    flood_s: float
    endurance: int
    idle_s: float
    wake_ups: int
    many_delayed: int
    due_at_once: int
    many_delayed_idle_s: float
    delayed_processes: tuple[int, ...] = (1, 2)
    concurrent_threads: tuple[int, ...] = (16, 64)
    idle_queues: tuple[int, ...] = (1, 3)


#: How market data is handled while orders are measured; first there is none.
FLOOD_VARIANTS = ("", "priorities", "equal priorities", "batches of 100", "conflated")

#: What a whole bench measures.
FULL = Sizes(
    delayed=600,
    kill_after_s=6.0,
    give_up_s=20.0,
    concurrent_s=2.0,
    flood_s=10.0,
    endurance=1_000_000,
    idle_s=60.0,
    wake_ups=12,
    many_delayed=1_000_000,
    due_at_once=100_000,
    many_delayed_idle_s=30.0,
)

#: What `--quick` measures.
QUICK = Sizes(
    delayed=200,
    kill_after_s=5.0,
    give_up_s=10.0,
    concurrent_s=1.0,
    flood_s=3.0,
    endurance=50_000,
    idle_s=15.0,
    wake_ups=10,
    many_delayed=20_000,
    due_at_once=5_000,
    many_delayed_idle_s=8.0,
)


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
        sizes: of the measures that have no option of their own.
    """

    systems: tuple[System, ...]
    measures: tuple[str, ...] = MEASURES
    rounds: int = 3
    messages: int = 20_000
    processes: tuple[int, ...] = (1, 2)
    threads: int = 8
    rates_per_s: tuple[int, ...] = (100, 1_000)
    seconds: float = 10.0
    sizes: Sizes = FULL

    def cases(self) -> list[Measure]:
        """Return what one round measures, in order."""
        n, sizes = self.messages, self.sizes
        cases: dict[str, list[Measure]] = {
            "drain": [Drain(n, count) for count in self.processes],
            "enqueue": [Enqueue(max(1, n // 4), bulk=False), Enqueue(n, bulk=True)],
            "latency": [Latency(rate, self.seconds) for rate in self.rates_per_s],
            "memory": [Memory(max(1, n // 2))],
            "delays": [Delays(sizes.delayed, count) for count in sizes.delayed_processes],
            "recovery": [Recovery(sizes.kill_after_s, sizes.give_up_s)],
            "concurrency": [
                Concurrency(count, sizes.concurrent_s) for count in sizes.concurrent_threads
            ],
            "flood": [Flood(variant, sizes.flood_s) for variant in FLOOD_VARIANTS],
            "endurance": [Endurance(sizes.endurance)],
            "idle": [
                Idle(count, sizes.idle_s / min(count, 2), sizes.wake_ups)
                for count in sizes.idle_queues
            ],
            "many-delayed": [
                ManyDelayed(
                    sizes.many_delayed,
                    sizes.due_at_once,
                    sizes.many_delayed_idle_s,
                    sizes.give_up_s,
                )
            ],
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
            "sizes": asdict(self.sizes),
            "long_shares": {system.name: system.long_share for system in self.systems},
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
    abilities: dict[str, frozenset[str]] = {}
    unavailable: dict[str, str] = {}
    for system in plan.systems:
        try:
            with bench.stage(system) as stage:
                abilities[system.name] = frozenset(stage.prepare()["abilities"])
        except ChildFailed as failure:
            unavailable[system.name] = str(failure)
            say(f"{system.name} cannot run: {failure}")
    systems = [system for system in plan.systems if system.name in abilities]
    samples: list[Sample] = []
    given_up: set[tuple[str, str, str]] = set()
    for round_ in range(plan.rounds):
        shift = round_ % max(1, len(systems))
        for case in plan.cases():
            if case.once and round_ > 0:
                continue
            for system in systems[shift:] + systems[:shift]:
                key = (case.name, case.case, system.name)
                able = case.needs <= abilities[system.name] and system.takes_part(case.name)
                if not able or key in given_up:
                    continue
                started = time.monotonic()
                sample = _take(case, bench, system, round_)
                samples.append(sample)
                if sample.at_least:
                    given_up.add(key)
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
