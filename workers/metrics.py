"""Metrics of workers for Prometheus. See `LatencyMetrics` and docs/metrics.md.

The committer's thread counts what it has settled (`metric_series`), a thread of its own looks at
the process once a second (`metric_gauges`). Both store numbers in files in shared memory
(`metric_files`); a process that the `dramatiq` command starts beside its workers adds up the files
of all of them and serves the sums (`metric_server`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dramatiq import Broker, Worker
from dramatiq.logging import get_logger
from dramatiq.middleware import Middleware

from ..broker import RedisStreamsBroker
from ..broker.settlements import BatchOutcome, Settlement
from .metric_backlog import BacklogGauges
from .metric_files import MetricFile
from .metric_folder import metrics_folder, prepare_folder
from .metric_gauges import Gauges
from .metric_series import Series
from .metric_server import address, scrape, serve_metrics

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LatencyMetrics"]


class LatencyMetrics(Middleware):
    """Exports latencies, outcomes and the state of worker processes to Prometheus.

    `broker.add_middleware(LatencyMetrics())` switches it on. Under the `dramatiq` command a process
    of its own serves the sums over all worker processes on STREAMATIQ_METRICS_HOST (default:
    127.0.0.1) and STREAMATIQ_METRICS_PORT (default: 9192; `off`: serves nothing). Elsewhere, ask
    `exposition`.

    Each settled delivery is counted once, in the moment in which its process learns that it is
    settled; a process that is killed keeps what it has counted. Nothing is opened before a worker
    boots. One process of the namespace (the one that looks for dead ones) asks the server what
    waits there, for all; the others ask it nothing.

    Parameters:
      max_series: Pairs of queue and event type that get labels of their own; the others are counted
        under `other`. Each takes about 200 series.
      every_s: Seconds between two looks at what is in flight, connections, CPU and memory.
      backlog_every_s: Seconds between two looks at what waits on the server, at least; None: there
        are none.

    Raises:
      ConfigurationError: STREAMATIQ_METRICS_PORT is no port.
    """

    def __init__(
        self,
        *,
        max_series: int = 200,
        every_s: float = 1.0,
        backlog_every_s: float | None = 5.0,
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        address()  # here a mistake in it is seen best
        self._max_series = max_series
        self._every_s = every_s
        self._backlog_every_s = backlog_every_s
        self._lock = threading.Lock()  # guards what follows
        self._pid = 0
        self._series: Series | None = None
        self._counters: MetricFile | None = None
        self._folder: Path | None = None
        self._gauges: Gauges | None = None
        self._backlog: BacklogGauges | None = None
        #: Booted and not shut down: a process may run several.
        self._workers = 0

    @property
    def forks(self) -> list[Callable[[], int]]:
        """What Dramatiq's command starts beside the workers."""
        return [] if address() is None else [serve_metrics]

    def exposition(self) -> bytes:
        """The metrics of all worker processes of this command, or of this program, as text.

        Thread-safe. In the format that Prometheus reads; for a server or a text file of your own.
        """
        return scrape(self._folder or metrics_folder())

    # -- hooks ---------------------------------------------------------------------------------

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Makes this process's files. Workers run without metrics where they cannot be made."""
        if not isinstance(broker, RedisStreamsBroker):
            self.logger.error("No metrics: %r is no RedisStreamsBroker.", broker)
            return
        try:
            with self._lock:
                self._begin(broker)
                assert self._series is not None
                wanted = worker.consumer_whitelist or broker.queues
                for name in sorted(broker.queues & set(wanted)):
                    subscription = broker.subscriptions.get(name)
                    classes = subscription.event_classes if subscription else ()
                    self._series.declare(name, [cls.event_type for cls in classes])
        except OSError as error:
            self.logger.error("No metrics of this process: %s", error)

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Takes away what holds for a living process only; what was counted stays."""
        with self._lock:
            self._workers = max(0, self._workers - 1)
            if self._workers == 0 and self._gauges is not None:
                self._gauges.close()
                self._gauges = None
            if self._workers == 0 and self._backlog is not None:
                self._backlog.close()
                self._backlog = None

    def after_settle(
        self, broker: Broker, batch: Sequence[Settlement], outcome: BatchOutcome, at_ns: int
    ) -> None:
        """Counts a batch. A hook of our broker, called in its committer's thread."""
        if self._series is not None:
            self._series.observe(batch, outcome, at_ns)

    def _begin(self, broker: RedisStreamsBroker) -> None:
        if self._pid != os.getpid():  # also after a fork
            self._series = self._counters = self._gauges = self._backlog = None
            self._workers = 0
            self._pid = os.getpid()
        self._workers += 1
        if self._series is None or self._counters is None:
            self._folder = metrics_folder()
            prepare_folder(self._folder)
            self._counters = MetricFile(self._folder, "counter")
            histograms = MetricFile(self._folder, "histogram")
            self._series = Series(self._counters, histograms, limit=self._max_series)
        if self._gauges is None:
            assert self._folder is not None
            self._gauges = Gauges(broker, self._folder, self._counters, every_s=self._every_s)
        if self._backlog is None and self._backlog_every_s is not None:
            assert self._folder is not None
            self._backlog = BacklogGauges(
                broker, self._folder, limit=self._max_series, every_s=self._backlog_every_s
            )
