"""What a worker process asks of the interpreter: its garbage collector, and how threads take turns.

Some hundred thousand objects of modules and models live as long as the process. Each full
collection looks at all of them, and holds up every thread meanwhile: it was a tenth of what an
event in a batch cost, and a pause that the most urgent event waits for, too.

What is in flight is not garbage either: some hundred deliveries of some twenty objects each, which
a collector that begins after every 700 of them looks at again and again, for nothing; a sixth of
what an event in a batch cost. It begins later here, so garbage in cycles lives that much longer.

A thread that comes back from the network waits for the interpreter until another one gives it up
by itself, or has had it for the switch interval. An order passes some six threads on its way to its
fill, and behind a flood of market data waited that long for most of them.
"""

from __future__ import annotations

import gc
import sys

__all__ = ["tune"]

#: New objects after which the youngest are collected; and Python's own default.
YOUNGEST, USUAL_YOUNGEST = 20_000, 700
#: Seconds that a thread may keep the interpreter while others want it; and Python's own default.
#: A quarter of this costs a third of the throughput and makes nothing quicker.
SWITCH_S, USUAL_SWITCH_S = 0.001, 0.005


def tune() -> None:
    """Leaves alone what lives now, for good, and collects what comes later less often; lets threads
    take turns more often. What the process has set itself is kept."""
    gc.collect()
    gc.freeze()
    youngest, *older = gc.get_threshold()
    if youngest == USUAL_YOUNGEST:
        gc.set_threshold(YOUNGEST, *older)
    if abs(sys.getswitchinterval() - USUAL_SWITCH_S) < 1e-6:
        sys.setswitchinterval(SWITCH_S)
