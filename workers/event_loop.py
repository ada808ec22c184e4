"""The event loop on which `async def` handlers run."""

from __future__ import annotations

from typing import Any

from dramatiq.asyncio import EventLoopThread, set_event_loop_thread
from dramatiq.middleware import AsyncIO

__all__ = ["EventLoop"]


class EventLoop(AsyncIO):
    """Dramatiq's AsyncIO with a daemon thread.

    Dramatiq's own thread is none: after a second Ctrl-C or SIGTERM, which is to end a worker
    process whatever its handlers do, the process would wait for the loop for ever, and beat and
    read meanwhile.
    """

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        """Starts the loop."""
        thread = EventLoopThread(self.logger)
        thread.daemon = True
        thread.start(timeout=1.0)
        set_event_loop_thread(thread)
