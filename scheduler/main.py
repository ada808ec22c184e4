"""What `streamatiq scheduler` and `python -m streamatiq.scheduler` run."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from types import FrameType

from dramatiq.logging import get_logger

from ..broker import RedisStreamsBroker
from ..broker.connections import Link
from ..broker.server import check_server
from ..settings import Settings
from ..workers import default_broker, load_handlers
from .health_server import HealthServer
from .process import SchedulerProcess

__all__ = ["run_scheduler"]

#: Exit status after a second signal, and where runs did not end in time.
CUT_SHORT = 1

_logger = get_logger(__name__)


def run_scheduler(settings: Settings, broker: RedisStreamsBroker | None = None) -> int:
    """Leads or stands by until SIGTERM or SIGINT; a second signal ends it at once.

    Loads the modules that `workers.handlers` names, for the actors, event types and kinds that
    schedules speak of. To be called in the main thread.

    Parameters:
      broker: Default: the global one, built from the settings where there is none.

    Returns:
      The exit status: 0; 1 if runs had to be left.

    Raises:
      ConfigurationError: The address for health and metrics cannot be had.
      HandlerModuleError: A module cannot be loaded.
      BrokerError: The server cannot be reached, or is one that must not be used.
    """
    given = broker
    broker = given or default_broker(settings)
    load_handlers(settings.workers.handlers)
    if given is None:
        broker = default_broker(settings)  # an application may have set one of its own meanwhile
    link = Link(broker.endpoint)
    try:
        check_server(link)
    finally:
        link.close()
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    process = SchedulerProcess(broker, on_end=lambda: waker.send(b"e"))
    host, port = settings.scheduler.host, settings.scheduler.port
    server = None
    if port is not None:
        server = HealthServer(host, port, health=process.health, exposition=process.exposition)
        _logger.info("Health and metrics of %s: %s", process.name, server.url)
    _stop_on_signals(process)
    # A signal may reach any thread: this is how the main one, which has to handle it, hears of it.
    before = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    process.start()
    while not process.wait(0):
        woken.recv(64)
    signal.set_wakeup_fd(before)
    woken.close()
    waker.close()
    if server is not None:
        server.close()
    if process.left_runs:
        # Their threads cannot be ended, and Python would wait for them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(CUT_SHORT)
    broker.close()
    _logger.info("Stopped.")
    return 0


def _stop_on_signals(process: SchedulerProcess) -> None:
    asked: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if asked:
            os._exit(CUT_SHORT)
        asked.append(number)
        # Not here: a handler must not wait for a lock that the interrupted thread may have.
        threading.Thread(target=process.stop, name="streamatiq-stop", daemon=True).start()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
