"""The engine of a replay: what comes next, when it is due, and what somebody wants otherwise.

One thread drives: `poll`, hand out what is ready, `delivered`. Any thread may control it; see
`controls`. What was handed out counts as delivered; nothing else does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from .controls import Controlled, Status
from .items import Replayed

__all__ = ["MAX_BATCH", "Batch", "Engine", "Wait"]

#: Events that are handed out at a time, at most.
MAX_BATCH = 256
#: With more time than this to wait, entries are read ahead, ns.
SPARE_NS = 50_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that are due, in order.

    Parameters:
      dues: When each was due, ns of the clock; None: it had no due time.
      generation: Of the place from which they come.
    """

    items: list[Replayed]
    dues: list[int | None]
    generation: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is due.

    Parameters:
      until_ns: Until then, by the clock; None: until somebody says so.
      version: Of what was asked for by then.
    """

    until_ns: int | None
    version: int


class Engine(Controlled):
    """One replay on its way, for the thread that drives it. See `Controlled` for its parameters."""

    def poll(
        self, limit: int = MAX_BATCH, *, load: bool = True, rest_ns: int = 0
    ) -> Batch | Wait | None:
        """What to hand out now; when to ask again; or None: it has ended.

        Parameters:
          limit: Events at most.
          load: Whether to read what is missing from the server; without, see `must_load`.
          rest_ns: What has a due time waits until so long after the last batch, so that a busy
            replay hands out several at a time. Never early, and late by no more than this.

        Raises:
          EventDecodeError: An entry is no event; names it.
          BrokerError: The server cannot be read.
        """
        with self._lock:
            while True:
                if self._ended is not None:
                    return None
                if not load and self._merge.must_load:
                    return Wait(self._clock_ns(), self._version)
                head = self._merge.peek()
                if self._pace.paused and not (self._steps and head is not None):
                    self._steps = 0  # there is nothing left to step to
                    return Wait(None, self._version)
                if head is None:
                    self._ended = Status.DONE
                    self._note_time()
                    return None
                now_ns = self._clock_ns()
                due_ns = self._pace.due_ns(head.time_ns, now_ns)
                if due_ns is None or self._steps:
                    due_ns = now_ns
                else:
                    due_ns = max(due_ns, self._last_ns + rest_ns)
                if due_ns <= now_ns and (batch := self._due(limit)).items:
                    self._last_ns = now_ns
                    return batch
                spare = load and due_ns - now_ns > SPARE_NS
                if not (spare and self._merge.prefetch()):
                    return Wait(due_ns, self._version)

    def _due(self, limit: int) -> Batch:
        """The next events that are due. In a burst, each microsecond here makes them late."""
        batch = Batch([], [], self._generation)
        items, dues, merge, pace = batch.items, batch.dues, self._merge, self._pace
        now_ns = self._clock_ns()
        time_ns, due_ns = -1, None
        counts = pace.counts
        for _ in range(limit):
            # Not to load in the middle: what is due already would wait for it.
            if merge.must_load and items:
                break
            head = merge.peek()
            if head is None:
                break
            if self._steps:
                self._steps -= 1
            elif pace.paused:
                break
            elif head.time_ns != time_ns or pace.is_limited:
                time_ns = head.time_ns
                due_ns = pace.due_ns(time_ns, now_ns)
                if due_ns is not None and due_ns > now_ns:
                    break
            merge.pop()
            if counts:
                pace.taken(head.time_ns, now_ns)
            items.append(head)
            dues.append(due_ns)
        return batch

    @property
    def must_load(self) -> bool:
        """Whether the next `poll` reads from the server."""
        with self._lock:
            return self._ended is None and self._merge.must_load

    def load(self) -> bool:
        """Reads what the next `poll` needs, or else a page ahead; False: there is nothing to read.
        Raises as `poll`."""
        with self._lock:
            if self._merge.must_load:
                self._merge.load()
                return True
            return self._merge.prefetch()

    def delivered(self, batch: Batch) -> None:
        """Counts a batch that `poll` gave."""
        with self._lock:
            now_ns = self._clock_ns()
            self.progress.add(batch.items, moves=batch.generation == self._generation)
            for due_ns, count in Counter(batch.dues).items():
                if due_ns is not None:
                    self.progress.lateness.add(now_ns - due_ns, count)
                    self.progress.late_ns = max(0, now_ns - due_ns)
            self._note_time()

    def wait(self, wait: Wait, longest_s: float | None = None) -> None:
        """Waits until there may be something to do, in the driver's thread.

        Parameters:
          longest_s: At most so long, seconds.
        """
        with self._lock:
            left_s = self.left_s(wait, longest_s)
            if left_s is None or left_s > 0:
                self._lock.wait(left_s)

    def left_s(self, wait: Wait, longest_s: float | None = None) -> float | None:
        """For how long to wait, seconds: 0 if somebody has changed something since; None: until
        somebody does.

        Parameters:
          longest_s: At most so long, seconds.
        """
        with self._lock:
            if wait.version != self._version:
                return 0.0
            if wait.until_ns is None:
                return longest_s
            until_s = max(0.0, (wait.until_ns - self._clock_ns()) / 1e9)
            return until_s if longest_s is None else min(longest_s, until_s)

    def has_spare(self, wait: Wait) -> bool:
        """Whether there is time to read ahead."""
        return wait.until_ns is None or wait.until_ns - self._clock_ns() > SPARE_NS
