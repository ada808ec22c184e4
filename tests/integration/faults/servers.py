"""A server that a test may kill and start again, and a load of events that goes on meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any, Self

import redis
from tests.integration.faults.fleet import Cause, Fleet
from tests.support import wait_gone

from streamatiq.errors import BrokerConnectionError

__all__ = ["Load", "PrivateServer"]


class PrivateServer:
    """An append-only server of one test. Its socket stays the same over restarts."""

    def __init__(self, ensure: Callable[..., Any]) -> None:
        self._ensure = ensure
        self._server = ensure("private")
        self.url: str = self._server.url

    @property
    def pid(self) -> int:
        return int(self._server.pid)

    def client(self) -> redis.Redis:
        """A redis-py client of it; close it after use."""
        return redis.Redis.from_url(self.url, protocol=2)

    def kill(self) -> None:
        """Kill -9, and wait for its end."""
        os.kill(self.pid, signal.SIGKILL)
        wait_gone(self.pid)

    def start(self) -> None:
        """Start it again on its data; returns when it answers."""
        self._server = self._ensure("private")
        assert self._server.url == self.url


class Load:
    """Publishes causes, `burst` at a time, from a thread until the end of the block.

    What a lost connection has left open is published again, until it is accepted: `published`
    counts what the server has confirmed.
    """

    def __init__(
        self, fleet: Fleet, *, pause_s: float = 0.002, what: str = "", burst: int = 1
    ) -> None:
        self._fleet = fleet
        self._pause_s = pause_s
        self._what = what
        self._burst = burst
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self.published = 0
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> range:
        """Stop; return the numbers of all that was accepted. Idempotent."""
        self._stopping.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return range(self.published)

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._pause_s):
                numbers = range(self.published, self.published + self._burst)
                events = [Cause(ts_event=1, number=n, what=self._what) for n in numbers]
                while not self._accepted(events):
                    pass
                self.published += self._burst
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            self._failure = error

    def _accepted(self, events: list[Cause]) -> bool:
        try:
            self._fleet.broker.logs.publish_many(events)
        except BrokerConnectionError:
            return False
        return True
