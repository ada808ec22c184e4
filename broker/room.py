"""How many entries a process holds: enough to keep its threads busy, not more.

What one fetch brings should last for `AHEAD_S` at the present speed of the handlers. A process with
slow handlers so holds few entries, and others can run the rest; with fast ones, fetches are large.

Of what it holds, it hands out to Dramatiq as many as there are threads. An entry that waits in
Dramatiq's own queue behind slow handlers could be run by another process, and would run before a
more urgent one that comes later, since that queue knows no lanes. Where handlers are fast, the wait
is short, and more are handed out so that no thread waits for the next one. A prefetch that was
asked for (`dramatiq_queue_prefetch`) is kept as it is.
"""

from __future__ import annotations

__all__ = ["Room"]

#: Seconds of work to hold.
AHEAD_S = 0.02
#: Handlers that take less than this are fast, seconds.
FAST_S = 0.002
#: Entries that Dramatiq asks for by itself, a thread.
USUAL_PREFETCH = 2
#: Weight of the newest measurement of speed.
NEWEST = 0.3


class Room:
    """Not thread-safe: its owner's lock guards it.

    Parameters:
      batch_size: Entries that may be held beyond what is handed out, at most.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._prefetch = 1
        self._threads = 1
        self._rate = 0.0
        self._since: float | None = None

    def size(self, prefetch: int, threads: int) -> None:
        """What Dramatiq's worker asks for.

        Parameters:
          prefetch: Entries that may be handed out, at most; 1 means one by one.
          threads: Worker threads of this process.
        """
        self._prefetch = prefetch
        self._threads = min(threads, prefetch)

    @property
    def rate(self) -> float:
        """Entries that are finished in a second, as of late."""
        return self._rate

    def observe(self, released: int, now_s: float) -> None:
        """`released` entries were finished since the last call, which was before `now_s`."""
        if self._since is not None and now_s > self._since:
            rate = released / (now_s - self._since)
            self._rate += NEWEST * (rate - self._rate)
        self._since = now_s

    def may_hand_out(self) -> int:
        """Entries that may be handed out at a time."""
        asked_for = self._prefetch != USUAL_PREFETCH * self._threads
        fast = self._rate * FAST_S > self._threads
        return self._prefetch if asked_for or fast else self._threads

    def target(self) -> int:
        """Entries to hold in all, handed out ones included."""
        if self._prefetch == 1:
            return 1  # asked for: no entry waits behind a running handler
        return self.may_hand_out() + min(self._batch_size, int(self._rate * AHEAD_S))

    def worth_fetching(self, buffered: int, handed_out: int) -> bool:
        """Whether half of the room is free: many tiny fetches would cost more than they bring."""
        return (buffered + handed_out) * 2 <= self.target() or (
            buffered == 0 and handed_out < self.may_hand_out()
        )
