"""Keeps the garbage collector from going through what a worker process has loaded.

Some hundred thousand objects of modules and models live as long as the process. Each full
collection looks at all of them, and holds up every thread meanwhile: it was a tenth of what an
event in a batch cost, and a pause that the most urgent event waits for, too.
"""

from __future__ import annotations

import gc

__all__ = ["freeze"]


def freeze() -> None:
    """Leaves alone what lives now, for good; what comes later is collected as ever."""
    gc.collect()
    gc.freeze()
