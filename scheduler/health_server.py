"""Answers over HTTP: /health (200 or 503, JSON) and /metrics (Prometheus)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from dramatiq.logging import get_logger
from prometheus_client import CONTENT_TYPE_LATEST

from ..errors import ConfigurationError

__all__ = ["HealthServer"]

#: Seconds that a client may take.
CLIENT_S = 10.0

_logger = get_logger(__name__)


class _Handler(BaseHTTPRequestHandler):
    timeout = CLIENT_S
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/health":
            health = self.server.health()
            body = json.dumps(health).encode()
            self._answer(200 if health["healthy"] else 503, "application/json", body)
        elif path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, self.server.exposition())
        else:
            self.send_error(404, "There are /health and /metrics.")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        _logger.debug(format, *args)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    health: Callable[[], dict[str, Any]]
    exposition: Callable[[], bytes]


class HealthServer:
    """Serves in a thread of its own until it is closed.

    Parameters:
      host, port: Where; port 0 takes any that is free.
      health: What /health tells; 503 unless its `healthy` is true.
      exposition: What /metrics tells.

    Raises:
      ConfigurationError: The address cannot be had.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        health: Callable[[], dict[str, Any]],
        exposition: Callable[[], bytes],
    ) -> None:
        try:
            self._server = _Server((host, port), _Handler)
        except OSError as error:
            raise ConfigurationError(
                f"scheduler.host {host!r} and scheduler.port {port}: {error}. Choose another port, "
                "0 for any free one, or null for none."
            ) from error
        self._server.health = health
        self._server.exposition = exposition
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="streamatiq-scheduler-http", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it answers."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def close(self) -> None:
        """Answers no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
