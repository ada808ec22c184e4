"""The demo's source: publishes events at a rate, in small batches.

Paced on an absolute clock: what is due follows from the time since the start, so a slow batch is
made up for by the next ones and nothing drifts. A source that cannot keep up publishes as fast as
it can, and ends at its time all the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from ..errors import StreamatiqError
from ..events import Event

__all__ = ["Source"]

#: Seconds between two batches.
BATCH_EVERY_S = 0.005
#: Most events in a batch: a source that is late must still see in time that it is to stop.
MAX_BATCH = 1000
#: A source that ended this much behind its rate has kept up: seconds, and share of its time.
LATE_S = 0.1
LATE_SHARE = 0.01


class Source(threading.Thread):
    """A thread that publishes. `published`, `elapsed_s` and `error` may be read at any time.

    Parameters:
      publish_many: Publishes a batch.
      events: What to publish; endless.
      rate: Events a second.
      seconds: For how long.
      clock: Monotonic, seconds.
    """

    def __init__(
        self,
        publish_many: Callable[[Sequence[Event]], object],
        events: Iterator[Event],
        *,
        rate: float,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="demo-source", daemon=True)
        self._publish_many = publish_many
        self._events = events
        self._rate = rate
        self._seconds = seconds
        self._clock = clock
        self._stopping = threading.Event()
        self._total = round(rate * seconds)
        self.published = 0
        self.elapsed_s = 0.0
        #: What ended it before its time.
        self.error: StreamatiqError | None = None

    def run(self) -> None:
        """Publishes until the time is over, `stop` is called, or an error comes."""
        start = self._clock()
        try:
            while self.published < self._total and not self._stopping.is_set():
                self.elapsed_s = self._clock() - start
                over = self.elapsed_s >= self._seconds
                due = self._total if over else int(self.elapsed_s * self._rate)
                size = min(due - self.published, MAX_BATCH)
                if size > 0:
                    self._publish_many(list(islice(self._events, size)))
                    self.published += size
                if over:
                    break
                if due <= self.published:
                    self._stopping.wait(BATCH_EVERY_S)
        except StreamatiqError as error:
            self.error = error
        self.elapsed_s = self._clock() - start

    def stop(self) -> None:
        """Ends it; returns when the batch under way is published."""
        self._stopping.set()
        if self.is_alive():
            self.join()

    @property
    def kept_up(self) -> bool:
        """Whether it has published at its rate, for as long as it ran."""
        late_s = self.elapsed_s - self.published / self._rate
        return late_s <= max(LATE_S, LATE_SHARE * self.elapsed_s)
