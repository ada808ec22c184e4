"""Recovery: one of two worker processes is killed (SIGKILL) under load.

How long it takes from the kill until every message sent before it has been handled, by whoever
lives. What the dead process held is the last of them. Budget: 2 s. A system that needs longer than
the measure is patient is given up, and its figure is "more than so long".

A handler that was interrupted runs again: that is promised. One that had ended, but was not
acknowledged yet, may run again: that is counted.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from ..apps.base import RECOVERS, THREADS
from ..ledger import Ledger
from ..processes import ChildFailed, Workers
from ..results import Sample
from ..sending import WARM_UP
from ..stage import Bench, Stage
from ..systems import System
from .base import Values

__all__ = ["Recovery", "recovered"]

#: How long handlers sleep: long enough that the killed process is at some of them.
_WORK_MS = 10.0

#: Load, as a share of what one process can do: the one that is left can do it all.
_LOAD = 0.5

#: Seconds that the load goes on after the kill, and that the second worker may take to start.
_AFTER_S = 2.5

#: Seconds by which each round kills later, so that it meets another moment of the heartbeats.
_STEP_S = 0.37

#: Messages before the one at which a worker is killed that it may still be at.
_AROUND = 100

#: Seconds between two looks at the ledger, near the kill.
_POLL_S = 0.002


@dataclass(frozen=True, slots=True)
class Recovery:
    """Kill one of two workers after `kill_after_s` of load; give up `give_up_s` later."""

    kill_after_s: float
    give_up_s: float
    name = "recovery"
    case = "kill -9 of 1 of 2"
    needs = frozenset({THREADS, RECOVERS})
    once = False

    def measure(self, bench: Bench, system: System, round_: int) -> Sample:
        rate_per_s = _LOAD * bench.threads * 1000 / _WORK_MS
        before = WARM_UP + round(rate_per_s * (self.kill_after_s + _STEP_S * round_))
        total = before + round(rate_per_s * _AFTER_S)
        with bench.stage(system, total, work_ms=_WORK_MS) as stage:
            with stage.start_workers(2, apart=True) as workers:
                killed_ns, victim = self._kill_under_load(stage, workers, before, rate_per_s)
                in_time = self._wait(stage, workers, killed_ns)
                settled = stage.is_settled() if in_time else None
            values = recovered(stage.ledger, killed_ns, victim)
            if not in_time:
                values["recovery_s"] = self.give_up_s
            ended = total - list(stage.ledger.done).count(0)
            must = in_time or system.in_time
            return Sample(
                round=round_,
                system=system.name,
                measure=self.name,
                case=self.case,
                values=values,
                sent=total,
                handled=ended if must else None,
                settled=settled,
                at_least=[] if in_time else ["recovery_s"],
            )

    def _kill_under_load(
        self, stage: Stage, workers: Workers, before: int, rate_per_s: float
    ) -> tuple[int, int]:
        """Return when a worker was killed, and which row of the ledger it has."""
        messages = stage.ledger.capacity - WARM_UP
        with stage.load("paced", WARM_UP, messages, rate_per_s, warm_up=True) as producer:
            while not stage.ledger.sent[before] or len(stage.ledger.pids) < 2:
                workers.check()
                if producer.ended():
                    raise ChildFailed("one of two workers handled nothing; let the load last")
                producer.check()
                time.sleep(_POLL_S)
            rows = {os.getpgid(pid): row for row, pid in enumerate(stage.ledger.pids)}
            victim = rows[workers.group(0)]
            while not producer.ended() and not _is_busy(stage.ledger, victim, before):
                time.sleep(_POLL_S / 4)
            killed_ns = time.monotonic_ns()
            workers.kill(0)
            stage.wait(workers, producer.ended, producer)
            producer.result()
        return killed_ns, victim

    def _wait(self, stage: Stage, workers: Workers, killed_ns: int) -> bool:
        """Wait until all is handled to the end; False if that takes too long."""
        give_up_ns = killed_ns + round(self.give_up_s * 1e9)
        while 0 in stage.ledger.done:
            workers.check()
            if time.monotonic_ns() > give_up_ns:
                return False
            time.sleep(_POLL_S * 10)
        return True


def _is_busy(ledger: Ledger, row: int, before: int) -> bool:
    """Whether a worker is at one of the messages around number `before`."""
    return any(
        ledger.handled[n] and not ledger.done[n] and ledger.worker[n] == row
        for n in range(max(0, before - _AROUND), ledger.capacity)
    )


def recovered(ledger: Ledger, killed_ns: int, victim: int) -> Values:
    """Return the figures of a ledger in which process number `victim` was killed at `killed_ns`.

    Raises:
        ChildFailed: the process had nothing in hand, so that there was nothing to recover.
    """
    interrupted = ended_again = 0
    last_ns = killed_ns
    for sent, handled, done, runs, worker in zip(
        ledger.sent, ledger.handled, ledger.done, ledger.runs, ledger.worker, strict=True
    ):
        was_victims = worker == victim and 0 < handled < killed_ns
        # The time of the kill is read just before it: a handler may still have ended on its own.
        interrupted += was_victims and (runs > 1 or not done) and not 0 < done < killed_ns
        ended_again += runs > 1 and 0 < done < killed_ns
        if sent < killed_ns:
            last_ns = max(last_ns, done)
    if not interrupted:
        raise ChildFailed("the killed worker was not running anything; use more threads")
    return {
        "recovery_s": (last_ns - killed_ns) / 1e9,
        "interrupted": interrupted,
        "ended_again": ended_again,
    }
