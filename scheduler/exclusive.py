"""One at a time: taking checkpoints, restoring them, and trimming logs.

Retention reads what checkpoints need, then trims; a checkpoint that is taken in between could need
what goes. So each of these takes a lease, for all processes of the namespace. A holder that was
stopped for longer than the lease must not go on: it asks `Turn.renew` before each step.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from ..broker import checkpoint_scripts as scripts
from ..broker.calls import Call
from ..broker.connections import LinkPool
from ..broker.dead_letter_admin import operator_name
from ..broker.keys import CheckpointKeys
from ..errors import BrokerConnectionError, CheckpointsBusy

__all__ = ["Turn", "run", "turn"]

T = TypeVar("T")

#: How long a holder that has died keeps the others out, ms.
LEASE_MS = 15_000
#: Seconds that others are waited for.
WAIT_S = 20.0
#: Seconds between two looks.
LOOK_S = 0.05


def run(links: LinkPool, call: Call[T]) -> T:
    """Runs a call that is harmless to repeat."""
    return links.call(lambda link: link.run(call))


class Turn:
    """The right to change checkpoints and logs; see `turn`."""

    def __init__(self, renew: Callable[[], str]) -> None:
        self._renew = renew

    def renew(self) -> None:
        """Keeps it for another lease. Before each step that relies on it.

        Raises:
          CheckpointsBusy: It was lost: this process stood still for too long.
        """
        holder = self._renew()
        if holder:
            raise CheckpointsBusy(
                f"This process stood still for more than {LEASE_MS // 1000} s, and {holder} has "
                "begun. What was not done yet is not done; call again."
            )


@contextmanager
def turn(
    links: LinkPool, keys: CheckpointKeys, what: str, *, wait_s: float = WAIT_S
) -> Iterator[Turn]:
    """Waits until nobody else takes a checkpoint, restores or trims, and keeps others out.

    Parameters:
      what: What it is for; others are told.
      wait_s: How long others are waited for, seconds.

    Raises:
      CheckpointsBusy: Somebody else still does.
      BrokerError: The server cannot be reached or refuses.
    """
    token, who = os.urandom(8).hex(), f"{operator_name()} ({what})"
    take = scripts.exclusive(keys, token, who, LEASE_MS)
    until = time.monotonic() + wait_s
    pause = threading.Event()
    while holder := run(links, take):
        if time.monotonic() >= until:
            raise CheckpointsBusy(
                f"{what}: {holder} is at it, and was not done after {wait_s:g} s. Call again; if "
                f"that process is gone, its turn ends after {LEASE_MS // 1000} s."
            )
        pause.wait(LOOK_S)
    try:
        yield Turn(lambda: run(links, take))
    finally:
        # Without it, it ends by itself; what was done, or failed, is what counts.
        with suppress(BrokerConnectionError):
            run(links, scripts.exclusive(keys, token, who, 0))
