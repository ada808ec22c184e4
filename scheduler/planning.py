"""What a schedule has to do now: which fire time to run, which are missed, when to look again.

Pure: no clock, no server. The cursor is the last fire time that was dealt with; it moves in the
same step on the server in which a run begins, so what was planned twice runs once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

from .definition import Missed
from .timing import NextAfter

__all__ = ["Delay", "Fire", "Plan", "delay_by_name", "plan"]

#: Fire times looked at in one plan, so that a long absence is worked off in steps.
STEPS = 10_000

#: How much later than its fire time a run begins, ms; the same again for the same fire time.
Delay = Callable[[int], int]


class Fire(NamedTuple):
    """One fire time. Both are ms since 1970 UTC."""

    #: What the schedule says; names the run.
    time: int
    #: When the run may begin.
    begin: int


class Plan(NamedTuple):
    """What there is to do."""

    #: The fire time to run now, if there is one.
    run: Fire | None
    #: What the cursor becomes when that begins, or at once if nothing does.
    cursor: int
    #: How many fire times are missed for good, the first and the last of them.
    missed: int = 0
    first_missed: int = 0
    last_missed: int = 0
    #: What comes next, if it is known.
    upcoming: Fire | None = None


def delay_by_name(name: str, jitter_ms: int) -> Delay:
    """Spreads the runs of a schedule over `jitter_ms`, evenly and in no pattern.

    Not random numbers: whoever leads next finds the same delay again.
    """
    if jitter_ms == 0:
        return lambda time: 0

    def delay(time: int) -> int:
        digest = hashlib.sha256(f"{name}:{time}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % (jitter_ms + 1)

    return delay


def plan(
    fire_times: NextAfter,
    *,
    missed: Missed,
    deadline_ms: int | None,
    delay: Delay,
    cursor: int,
    now: int,
    steps: int = STEPS,
) -> Plan:
    """Decides what a schedule does at `now`.

    Fire times are dealt with in their order. Those that are due and within the deadline run: with
    `each` every one, the oldest first; else the newest, and those before it are missed.

    Parameters:
      missed: The policy.
      deadline_ms: How late a run may begin; None: however late.
      cursor: The last fire time that was dealt with.
      now: ms since 1970 UTC, as all times here.
      steps: Fire times to look at, at least two.
    """
    run: Fire | None = None
    lost = _Lost()
    last = cursor
    for _ in range(steps):
        time = fire_times(last)
        fire = None if time is None else Fire(time, time + delay(time))
        if fire is None or fire.begin > now:
            return Plan(run, last, *lost.counted, upcoming=fire)
        last = fire.time
        if deadline_ms is not None and now - fire.begin > deadline_ms:
            lost.add(fire.time)
        elif missed == "each":
            return Plan(fire, last, *lost.counted)
        else:
            if run is not None:
                lost.add(run.time)
            run = fire
    # The newest of these may not be the newest of all: the next plan begins with it.
    return Plan(None, last if run is None else lost.last, *lost.counted)


class _Lost:
    """Counts what is missed."""

    def __init__(self) -> None:
        self.count = self.first = self.last = 0

    def add(self, time: int) -> None:
        self.first = self.first if self.count else time
        self.last = time
        self.count += 1

    @property
    def counted(self) -> tuple[int, int, int]:
        return self.count, self.first, self.last
