"""Serves the metrics of all worker processes of a `dramatiq` command.

Dramatiq's command starts `serve_metrics` in a process of its own. At each scrape the files of all
processes are read and added up. Of a process that has died without a word, what it has counted
stays (a sum that shrinks would look like a restart), and what holds for living ones only goes.
"""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from dramatiq.logging import get_logger

from ..errors import ConfigurationError
from .metric_files import is_alive
from .metric_folder import metrics_folder

__all__ = ["address", "scrape", "serve_metrics"]

#: Where it listens, unless the environment says otherwise.
HOST, PORT = "127.0.0.1", 9192
#: Seconds between attempts to get an address that somebody else has.
AGAIN_S = 5.0
#: Seconds between looks whether the command still lives.
LOOK_S = 1.0
#: Seconds that a client may take.
CLIENT_S = 10.0

_logger = get_logger(__name__)
#: Damaged files that were reported.
_said: set[str] = set()


def address() -> tuple[str, int] | None:
    """Host and port to listen on, from the environment; None if nothing shall be served.

    Raises:
      ConfigurationError: The port is none.
    """
    port = os.environ.get("STREAMATIQ_METRICS_PORT", str(PORT)).strip()
    if port == "off":
        return None
    if not port.isdecimal() or int(port) > 65_535:
        raise ConfigurationError(
            f"STREAMATIQ_METRICS_PORT is {port!r}: give a port, 0 for any free one, or `off`."
        )
    return os.environ.get("STREAMATIQ_METRICS_HOST", HOST), int(port)


def scrape(folder: Path) -> bytes:
    """The sums over all files in `folder`, as text for Prometheus.

    A file that cannot be read is left out and counted in `streamatiq_metrics_unreadable_files`.
    """
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import GaugeMetricFamily, Metric
    from prometheus_client.multiprocess import MultiProcessCollector
    from prometheus_client.registry import Collector

    _forget_dead(folder)

    class Files(Collector):
        def collect(self) -> list[Metric]:
            paths = sorted(str(path) for path in folder.glob("*.db"))
            merged, bad = _merged(paths), 0
            if merged is None:
                good = [path for path in paths if _merged([path]) is not None]
                merged, bad = _merged(good) or [], len(paths) - len(good)
            name = "streamatiq_metrics_unreadable_files"
            unreadable = GaugeMetricFamily(name, "Files of metrics that are damaged.", bad)
            return [*merged, unreadable]

    def _merged(paths: list[str]) -> list[Metric] | None:
        try:
            return list(MultiProcessCollector.merge(paths))
        except Exception as error:  # noqa: BLE001 - whatever a damaged file leads to
            if len(paths) == 1 and paths[0] not in _said:
                _said.add(paths[0])
                _logger.error("Metrics: %s is damaged (%r); it is left out.", paths[0], error)
            return None

    registry = CollectorRegistry()
    registry.register(Files())
    return generate_latest(registry)


def _forget_dead(folder: Path) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    names = {path.stem.rpartition("_")[2] for path in folder.glob("gauge_live*_*.db")}
    for name in names:
        if not is_alive(name):
            mark_process_dead(name, str(folder))


class _Handler(BaseHTTPRequestHandler):
    timeout = CLIENT_S
    server: _Server

    def do_GET(self) -> None:
        from prometheus_client import CONTENT_TYPE_LATEST

        if self.path.partition("?")[0] not in ("/", "/metrics"):
            self.send_error(404, "Metrics are at /metrics.")
            return
        try:
            body = scrape(self.server.folder)
        except Exception:
            _logger.exception("Metrics: a scrape failed.")
            self.send_error(500, "See the log of the workers.")
            return
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE_LATEST)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        _logger.debug(format, *args)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, at: tuple[str, int], folder: Path) -> None:
        self.folder = folder
        self._parent = os.getppid()
        super().__init__(at, _Handler)

    def service_actions(self) -> None:
        """Ends with the command, also where that was killed: else it would keep the port."""
        if os.getppid() != self._parent:
            raise SystemExit(0)


def serve_metrics() -> int:
    """Serves until it is stopped; returns an exit status. Dramatiq's command runs it."""
    at = address()
    if at is None:
        return 0
    folder = metrics_folder()
    parent, said = os.getppid(), False
    while os.getppid() == parent:
        try:
            server = _Server(at, folder)
        except OSError as error:
            if not said:
                _logger.warning(
                    "Metrics cannot be served on %s:%d: %s. Trying on; STREAMATIQ_METRICS_PORT "
                    "names another port.",
                    *at,
                    error,
                )
            said = True
            threading.Event().wait(AGAIN_S)
            continue
        with server:
            host, port = server.server_address[:2]
            _logger.info("Metrics of %s: http://%s:%d/metrics", folder, str(host), port)
            server.serve_forever(poll_interval=LOOK_S)
    return 0
