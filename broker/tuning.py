"""What a worker process asks of the garbage collector.

Some hundred thousand objects of modules and models live as long as the process. Each full
collection looks at all of them, and holds up every thread meanwhile: it was a tenth of what an
event in a batch cost, and a pause that the most urgent event waits for, too.

What is in flight is not garbage either: some hundred deliveries of some twenty objects each, which
a collector that begins after every 700 of them looks at again and again, for nothing; a sixth of
what an event in a batch cost. It begins later here, so garbage in cycles lives that much longer.
"""

from __future__ import annotations

import gc

__all__ = ["tune"]

#: New objects after which the youngest are collected; and Python's own default.
YOUNGEST, USUAL_YOUNGEST = 20_000, 700


def tune() -> None:
    """Leaves alone what lives now, for good, and collects what comes later less often. What the
    process has set itself is kept."""
    gc.collect()
    gc.freeze()
    youngest, *older = gc.get_threshold()
    if youngest == USUAL_YOUNGEST:
        gc.set_threshold(YOUNGEST, *older)
