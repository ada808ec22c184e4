"""What is looked at once a second: what is in flight, connections, CPU and memory of this process.

A thread of its own, so that nothing here takes part in the work; it asks the server nothing.
prometheus-client's own collector of the process does nothing where there are several processes.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from weakref import WeakKeyDictionary

from dramatiq.logging import get_logger

from ..broker import RedisStreamsBroker
from ..broker.outages import Outages
from .metric_files import MetricFile
from .metric_guards import GuardGauges

__all__ = ["Gauges"]

#: Values of the label `connection`.
CONNECTIONS = ("intake", "committer", "heartbeat", "control")


class Gauges:
    """Numbers of one living process, until `close`.

    Parameters:
      folder: Where their files are.
      counters: Where what only grows is counted.
      every_s: Seconds between looks.

    Raises:
      OSError: A file cannot be made.
    """

    def __init__(
        self, broker: RedisStreamsBroker, folder: Path, counters: MetricFile, *, every_s: float
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self._broker = broker
        self._every_s = every_s
        self._counters = counters
        with ExitStack() as undo:
            self._sum = MetricFile(folder, "gauge_livesum")
            undo.callback(self._sum.remove)
            self._max = MetricFile(folder, "gauge_livemax")
            undo.callback(self._max.remove)
            self._all = MetricFile(folder, "gauge_liveall")
            undo.pop_all()
        #: What was counted of each connection before.
        self._seen: WeakKeyDictionary[Outages, tuple[int, int]] = WeakKeyDictionary()
        self._guards = GuardGauges(broker, self._max, counters)
        self._stop = threading.Event()
        self._look()
        self._thread = threading.Thread(target=self._run, name="streamatiq-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Looks once more, and takes the numbers of this process away. Counters stay."""
        self._stop.set()
        self._thread.join()
        for file in (self._sum, self._max, self._all):
            file.remove()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._look()
        self._look()

    def _look(self) -> None:
        try:
            self._look_at_work()
            self._look_at_connections()
            self._guards.look()
            self._look_at_process()
        except Exception:
            self.logger.exception("Metrics: a look at this process failed; trying again.")

    def _look_at_work(self) -> None:
        running = unsettled = 0
        oldest_s = 0.0
        for process in self._broker.health().processes:
            running, unsettled = process.running, process.unsettled
            oldest_s = process.running_s
            for queue in process.queues:
                self._set(
                    self._sum,
                    "streamatiq_deliveries_held",
                    "Deliveries in flight: claimed and not settled.",
                    queue.held,
                    {"queue": queue.name},
                )
        self._set(self._sum, "streamatiq_workers", "Worker processes.", 1)
        self._set(self._sum, "streamatiq_handlers_running", "Handlers that run.", running)
        text = "Outcomes that wait for the server."
        self._set(self._sum, "streamatiq_deliveries_unsettled", text, unsettled)
        text = "For how long the oldest handler runs."
        self._set(self._max, "streamatiq_oldest_handler_seconds", text, oldest_s)

    def _look_at_connections(self) -> None:
        down = dict.fromkeys(CONNECTIONS, 0)
        losses = dict.fromkeys(CONNECTIONS, 0)
        reconnects = dict.fromkeys(CONNECTIONS, 0)
        for name, outages in self._broker.outages():
            before = self._seen.get(outages, (0, 0))
            self._seen[outages] = now = (outages.losses, outages.reconnects)
            down[name] += outages.down
            losses[name] += now[0] - before[0]
            reconnects[name] += now[1] - before[1]
        for name in CONNECTIONS:
            labels = {"connection": name}
            text = "Connections that are lost now."
            self._set(self._sum, "streamatiq_connections_down", text, down[name], labels)
            text = "Connections that were lost."
            self._count("streamatiq_connection_losses", text, losses[name], labels)
            text = "Connections that were found again."
            self._count("streamatiq_connection_reconnects", text, reconnects[name], labels)

    def _look_at_process(self) -> None:
        used = os.times()
        for mode, seconds in (("user", used.user), ("system", used.system)):
            name, text = "streamatiq_worker_cpu_seconds", "CPU time of worker processes."
            place = self._counters.cell(name, f"{name}_total", text, {"mode": mode})
            self._counters.cells[place] = seconds
        text = "Memory of each worker process."
        self._set(self._all, "streamatiq_worker_resident_memory_bytes", text, _resident_bytes())

    def _set(
        self,
        file: MetricFile,
        name: str,
        help_text: str,
        value: float,
        labels: dict[str, str] | None = None,
    ) -> None:
        place = file.cell(name, name, help_text, labels or {})
        file.cells[place] = value

    def _count(self, name: str, help_text: str, more: int, labels: dict[str, str]) -> None:
        place = self._counters.cell(name, f"{name}_total", help_text, labels)
        self._counters.cells[place] += more


def _resident_bytes() -> int:
    """Memory of this process now; where that cannot be known, the most that it ever had."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
