"""Endurance: many messages through one worker process that keeps up with them. Does it grow?

Its own memory (not that of mapped files) is read while it works; the last tenth of the messages is
compared with the first. The server's memory is read before and after, per message: nothing may stay
in a work queue; a log keeps its events. Budget: the worker 5 % at most; a work queue 1 byte.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ..apps.base import THREADS
from ..results import Sample
from ..sending import WARM_UP
from ..stage import Bench, Stage
from ..systems import System
from .base import Values, share_of

__all__ = ["Endurance", "growth"]

#: Seconds between two readings of the worker's memory.
_SAMPLE_S = 0.1

#: Share of the messages that is left out at the beginning: buffers and caches fill.
_LEAD_IN = 0.01

#: How many messages were handled, and the worker's bytes by then.
Reading = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Endurance:
    """Send `messages` (times the system's share), as fast as they are handled."""

    messages: int
    name = "endurance"
    case = "1 process"
    needs = frozenset({THREADS})
    once = True

    def measure(self, bench: Bench, system: System, round_: int) -> Sample:
        messages = share_of(self.messages, system)
        total = WARM_UP + messages
        with bench.stage(system, total) as stage:
            with stage.start_workers(1) as workers:
                stage.warm_up(workers)
                before, started = bench.server.used_memory(), time.monotonic()
                readings: list[Reading] = []
                with stage.load("steady", WARM_UP, messages) as producer:
                    stage.wait(workers, lambda: self._is_done(stage, readings), producer)
                seconds = time.monotonic() - started
                settled = stage.is_settled()
                after = bench.server.used_memory()
            values: Values = {"rate_per_s": messages / seconds}
            values |= growth(readings, WARM_UP, total)
            values["server_bytes_per_message"] = (after - before) / messages
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

    def _is_done(self, stage: Stage, readings: list[Reading]) -> bool:
        handled, used = stage.handled(), stage.worker_bytes()
        if used is not None:
            readings.append((handled, used))
        time.sleep(_SAMPLE_S)
        return handled == stage.ledger.capacity


def growth(readings: Sequence[Reading], first: int, last: int) -> Values:
    """Compare a worker's memory in the last tenth of the messages with the first tenth.

    Args:
        readings: what was read, in order.
        first, last: numbers of messages between which it worked.

    Returns: `worker_mb` (the last tenth's median, MB) and `worker_growth`; None where a tenth has
        no reading.
    """
    tenth = (last - first) / 10
    begin = first + tenth * 10 * _LEAD_IN
    early = [used for handled, used in readings if begin <= handled < begin + tenth]
    late = [used for handled, used in readings if handled >= last - tenth]
    if not early or not late:
        return {"worker_mb": None, "worker_growth": None}
    return {
        "worker_mb": median(late) / 1e6,
        "worker_growth": median(late) / median(early),
    }
