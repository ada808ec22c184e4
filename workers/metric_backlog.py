"""What waits on the server, as gauges: exported by one process of a namespace.

That process is the one that has the lease by which dead ones are found, so there is no second
lease. A thread of its own asks, on a connection of its own: where the server hangs, the other
metrics go on. When the lease or the server is lost, the numbers are taken away: none is better than
one that stays as it was.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from pathlib import Path

from dramatiq.logging import get_logger

from ..broker import RedisStreamsBroker
from ..broker.connections import Link
from ..broker.waiting_work import Look, StreamWork, look_at_work
from ..errors import BrokerConnectionError, BrokerError
from .metric_files import MetricFile
from .metric_series import NO_TYPE, OTHER

__all__ = ["BacklogGauges"]

#: Seconds between two looks whether this process has the lease.
LEASE_S = 1.0
#: Seconds that `close` waits for a look that is under way.
CLOSE_S = 0.5

#: Queue, event type, partition or lane; empty where there is none.
Labels = tuple[str, str, str]

_TEXTS = {
    "streamatiq_backlog": "Entries to handle: unread, running, waiting, parked.",
    "streamatiq_lag": "Entries that nobody has claimed.",
    "streamatiq_parked": "Entries put aside for a retry, or handed back.",
    "streamatiq_oldest_unread_seconds": "For how long the oldest unclaimed entry is there.",
    "streamatiq_oldest_pending_seconds": "For how long the oldest unsettled entry is there.",
    "streamatiq_dead_letters": "Dead letters that are kept.",
    "streamatiq_delayed": "Delayed messages.",
}


class BacklogGauges:
    """Numbers of the namespace, while this process has the lease, until `close`.

    Parameters:
      folder: Where their file is.
      limit: Streams, as subscriptions read them, that get labels of their own; the others are added
        up under `other`.
      every_s: Seconds between two looks at the server; see `Look.pause_s`.
    """

    def __init__(
        self, broker: RedisStreamsBroker, folder: Path, *, limit: int, every_s: float
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self._broker = broker
        self._folder = folder
        self._limit = limit
        self._every_s = every_s
        self._link = Link(broker.endpoint, name="streamatiq-metrics")
        self._file: MetricFile | None = None
        self._labelled: set[Labels] = set()
        self._said = ""
        self._said_full = False
        self._stop = threading.Event()
        name = "streamatiq-metrics-backlog"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Takes the numbers away. Does not wait for a server that hangs: a stop has no time."""
        self._stop.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stop.wait(pause_s):
            pause_s = self._step()
        self._take_away()

    def _step(self) -> float:
        """Looks, if this process has the lease; returns the seconds until the next time."""
        if not self._broker.leads:
            self._take_away()
            return min(LEASE_S, self._every_s)
        try:
            look = look_at_work(self._link, self._broker.keys)
            self._export(look)
        except BrokerConnectionError as error:
            self.logger.debug("Metrics: %s", error)  # whoever reads says so already
            self._take_away()
            return self._every_s
        except (BrokerError, OSError) as error:
            if str(error) != self._said:
                self.logger.error("Metrics: what waits on the server is not exported: %s", error)
            self._said = str(error)
            self._take_away()
            return self._every_s
        except Exception:
            self.logger.exception("Metrics: a look at the server failed; trying again.")
            self._take_away()
            return self._every_s
        self._said = ""
        return look.pause_s(self._every_s)

    def _take_away(self) -> None:
        self._link.close()
        file, self._file = self._file, None
        if file is not None:
            file.remove()

    def _export(self, look: Look) -> None:
        sums: dict[tuple[str, Labels], float] = defaultdict(float)
        for work in look.streams:
            labels = self._labels(_labels_of(work))
            sums["streamatiq_backlog", labels] += work.unread + work.pending
            sums["streamatiq_lag", labels] += work.unread
            sums["streamatiq_parked", labels] += work.parked
            for name, age_s in (
                ("streamatiq_oldest_unread_seconds", work.oldest_unread_s),
                ("streamatiq_oldest_pending_seconds", work.oldest_pending_s),
            ):
                sums[name, labels] = max(sums[name, labels], age_s)
            # There, as 0, before the first one.
            sums["streamatiq_dead_letters", (*labels[:2], "")] += 0
            if labels[1] == NO_TYPE:
                sums["streamatiq_delayed", (labels[0], "", "")] += 0
        for source, count in look.dead.values():
            labels = self._labels(_labels_of(StreamWork(source)))
            sums["streamatiq_dead_letters", (*labels[:2], "")] += count
        for queue, count in look.delayed.items():
            shown = queue if ("streamatiq_delayed", (queue, "", "")) in sums else OTHER
            sums["streamatiq_delayed", (shown, "", "")] += count
        if self._file is None:
            self._file = MetricFile(self._folder, "gauge_livemostrecent")
        now = time.time()
        for (name, labels), value in sums.items():
            self._set(self._file, name, labels, value, now)

    def _labels(self, labels: Labels) -> Labels:
        """These, or `other` where there are too many."""
        if labels in self._labelled:
            return labels
        if len(self._labelled) >= self._limit:
            if not self._said_full:
                self.logger.warning(
                    "More than %d streams are read; what waits on the others is added up under %r. "
                    "Raise LatencyMetrics(max_series=...) if your Prometheus can take it.",
                    self._limit,
                    OTHER,
                )
            self._said_full = True
            return (OTHER, OTHER, OTHER)
        self._labelled.add(labels)
        return labels

    def _set(self, file: MetricFile, name: str, labels: Labels, value: float, now_s: float) -> None:
        named = zip(("queue", "type", "part"), labels, strict=True)
        place = file.cell(name, name, _TEXTS[name], {key: label for key, label in named if label})
        file.cells[place] = value
        # Of two processes that both believe to have the lease, the later look counts.
        file.cells[place + 1] = now_s


def _labels_of(work: StreamWork) -> Labels:
    source = work.source
    _, _, rest = source.name.partition(":")
    what, _, part = rest.rpartition(":")
    return (source.group, what if source.is_log else NO_TYPE, part)
