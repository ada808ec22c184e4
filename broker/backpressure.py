"""What a publish or enqueue does where there is no room: raise at once, or wait for a while first.

The scripts decide whether there is room; here is decided what follows. A call that waits looks
again after pauses that grow from 10 to 100 ms, without holding a connection. Calls that wait at the
same time get room in no particular order; each keeps the order of its own events or messages.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .backoff import Backoff

__all__ = ["Backpressure", "RoomWait", "unlimited"]

#: First and longest pause between two looks for room, seconds.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.1


@dataclass(frozen=True, slots=True)
class Backpressure:
    """The limit of a backlog, and what is done there.

    Parameters:
      limit: Most entries that a work queue, or a subscription on one stream, may have to handle;
        0 = no limit.
      block_s: How long a call waits without finding room for anything, seconds; 0 raises at once.
      shed: Event types that are dropped and counted instead.
      clock_s: A clock that never steps back, seconds.
      wait: Waits so many seconds; returns True to stop waiting.
    """

    limit: int
    block_s: float = 0.0
    shed: frozenset[str] = frozenset()
    clock_s: Callable[[], float] = time.monotonic
    wait: Callable[[float], bool] | None = None

    def begin(self) -> RoomWait:
        """The wait of one call, which has not begun."""
        return RoomWait(self)


#: No limit: what a test or a tool uses that has no settings.
unlimited = Backpressure(0)


class RoomWait:
    """One call's wait for room. For one thread or task."""

    def __init__(self, policy: Backpressure) -> None:
        self._policy = policy
        self._began_s: float | None = None
        self._moved_s = 0.0
        self._must_not = False
        #: Made when it is first needed: its random numbers cost more than a call's other work.
        self._backoff: Backoff | None = None

    @property
    def waited_s(self) -> float:
        """Since something of the call was refused first, seconds; 0 if the call does not wait."""
        if self._began_s is None or not self._policy.block_s:
            return 0.0
        return self._policy.clock_s() - self._began_s

    def advice(self, again: str, who: str) -> str:
        """How it was waited, and what to do, for a message.

        Parameters:
          again: How to try again.
          who: Whom the setting could make wait.
        """
        if self._must_not:
            return (
                "It was not waited for room, because an event loop runs in this thread: use "
                f"apublish, or asyncio.to_thread. Or start more workers, or {again}."
            )
        if self.waited_s:
            return f"Waited {self.waited_s:.1f} s for room. Start more workers, or {again}."
        return f"Start more workers, {again}, or let {who} wait (event_bus.when_full: block)."

    def pause_s(self, moved: bool) -> float | None:
        """How long to wait before the next try, seconds; None gives up.

        Parameters:
          moved: Something of the call found room at the last try; the time starts anew.
        """
        if not self._policy.block_s:
            return None
        now_s = self._policy.clock_s()
        if self._began_s is None:
            self._began_s = self._moved_s = now_s
        elif moved:
            self._moved_s = now_s
            self._backoff = None
        self._backoff = self._backoff or Backoff(first_s=FIRST_PAUSE_S, limit_s=LONGEST_PAUSE_S)
        left_s = self._moved_s + self._policy.block_s - now_s
        return min(self._backoff.next_s(), left_s) if left_s > 0 else None

    def pause(self, moved: bool) -> bool:
        """Waits before the next try; False gives up.

        A thread in which an event loop runs is not made to wait: its other tasks, among them those
        that may make room, would wait too.
        """
        if self._policy.block_s and _in_event_loop():
            self._must_not = True
            return False
        pause_s = self.pause_s(moved)
        if pause_s is None:
            return False
        return not (self._policy.wait or threading.Event().wait)(pause_s)

    async def apause(self, moved: bool) -> bool:
        """`pause` for a coroutine."""
        pause_s = self.pause_s(moved)
        if pause_s is None:
            return False
        await asyncio.sleep(pause_s)
        return True


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
