"""Is there anything left to do? Or does all that is left only wait for its time?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..broker import scripts
from ..broker.connections import Link
from ..broker.keys import SourceKeys
from ..broker.scripts import DelayedKeys

__all__ = ["Look", "look"]


class Look(NamedTuple):
    """What one queue or subscription holds.

    Parameters:
      busy: Whether something of it is ready, due or running.
      due_ms: Milliseconds until the next of what waits is due; None: nothing waits.
    """

    name: str
    busy: bool
    due_ms: int | None


def look(
    link: Link, name: str, held: int, sources: Sequence[SourceKeys], delayed: DelayedKeys | None
) -> Look:
    """Compares what a queue holds with what of it was put aside until a time.

    Parameters:
      held: Its backlog.
      sources: Of each of its streams.
      delayed: Of a work queue: its delayed messages.
    """
    due_ms = link.run(scripts.peek(sources, delayed))
    aside = [keys.parked for keys in sources] + ([delayed.delayed] if delayed else [])
    waiting = sum(link.send("ZCARD", key) for key in aside)
    return Look(name, held > waiting or due_ms == 0, due_ms)
