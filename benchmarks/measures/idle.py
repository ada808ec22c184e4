"""Idle: what a worker process asks the server for while there is nothing to do.

Commands are counted by the server itself (INFO commandstats), those inside scripts included. Then
single messages are sent, half a second apart: each finds an idle worker. Budget: 3 commands/s a
process and 1/s a queue; p50 of a message below 1 ms.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from ..apps.base import THREADS
from ..ledger import Ledger
from ..results import Sample
from ..sending import WARM_UP
from ..stage import Bench, Stage
from ..systems import System
from .base import Values, percentiles

__all__ = ["Idle", "commands_per_s", "latency"]

#: Messages sent a second to an idle worker.
_RATE_PER_S = 2.0

#: Seconds after the last message until a worker counts as idle.
_CALM_S = 1.0


@dataclass(frozen=True, slots=True)
class Idle:
    """One worker process with `queues` queues and nothing to do for `seconds` (times its share)."""

    queues: int
    seconds: float
    wake_ups: int
    name = "idle"
    needs = frozenset({THREADS})
    once = True

    @property
    def case(self) -> str:
        return "1 queue" if self.queues == 1 else f"{self.queues} queues"

    def measure(self, bench: Bench, system: System, round_: int) -> Sample:
        total = WARM_UP + self.wake_ups
        with bench.stage(system, total, queues=self.queues) as stage:
            with stage.start_workers(1) as workers:
                stage.warm_up(workers)
                time.sleep(_CALM_S)
                seconds = self.seconds * system.idle_share
                values: Values = {"commands_per_s": commands_per_s(stage, seconds)}
                with stage.load("paced", WARM_UP, self.wake_ups, _RATE_PER_S) as producer:
                    stage.wait(workers, lambda: stage.handled() == total, producer)
                settled = stage.is_settled()
            return Sample(
                round=round_,
                system=system.name,
                measure=self.name,
                case=self.case,
                values=values | latency(stage.ledger, WARM_UP, total),
                sent=total,
                handled=stage.handled(),
                duplicates=stage.ledger.duplicate_count(0, total),
                settled=settled,
            )


def commands_per_s(stage: Stage, seconds: float) -> float:
    """Do nothing for some seconds; return the commands that the server ran meanwhile, a second."""
    server = stage.bench.server
    before, started = server.commands(), time.monotonic()
    time.sleep(seconds)
    after, ended = server.commands(), time.monotonic()
    return (after - before) / (ended - started)


def latency(ledger: Ledger, first: int, last: int) -> Values:
    """Return from send to handler, ms, of the messages from number `first` up to `last`."""
    numbers = range(first, last)
    return percentiles(((ledger.handled[n] - ledger.sent[n]) / 1e6 for n in numbers), "ms")
