"""Dramatiq's rate limiters on the broker's server.

Dramatiq's own backend does the work; its keys get the namespace in front, under one hash tag.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import redis
from dramatiq.rate_limits import RateLimiterBackend
from dramatiq.rate_limits.backends import RedisBackend

from .connections import Endpoint
from .faults import translated
from .keys import LimitKeys

__all__ = ["LimiterBackend"]


class LimiterBackend(RateLimiterBackend):
    """Thread-safe. All methods are Dramatiq's.

    `_lock` guards the backend's making.

    Parameters:
      endpoint: The server.
      keys: Where the counts are.

    Raises:
      BrokerError: (every method) The server cannot be reached or refuses.
    """

    def __init__(self, endpoint: Endpoint, keys: LimitKeys) -> None:
        self._endpoint = endpoint
        self._keys = keys
        self._lock = threading.Lock()
        self._client: redis.Redis | None = None
        self._backend: RedisBackend | None = None
        self._pid = 0

    def _stock(self) -> RedisBackend:
        with self._lock:
            if self._backend is None or self._pid != os.getpid():
                self._client = self._endpoint.client()
                self._backend = RedisBackend(client=self._client)
                self._pid = os.getpid()
            return self._backend

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Stores a value where there is none."""
        with translated(self._endpoint.shown):
            return bool(self._stock().add(self._keys.limit(key), value, ttl))

    def incr(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        """Adds, up to a maximum."""
        with translated(self._endpoint.shown):
            return bool(self._stock().incr(self._keys.limit(key), amount, maximum, ttl))

    def decr(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Takes away, down to a minimum."""
        with translated(self._endpoint.shown):
            return bool(self._stock().decr(self._keys.limit(key), amount, minimum, ttl))

    def incr_and_sum(
        self, key: str, keys: Callable[[], list[str]], amount: int, maximum: int, ttl: int
    ) -> bool:
        """Adds to one of several counts, up to a maximum of their sum."""

        def all_keys() -> list[str]:
            return [self._keys.limit(one) for one in keys()]

        with translated(self._endpoint.shown):
            limit = self._keys.limit(key)
            return bool(self._stock().incr_and_sum(limit, all_keys, amount, maximum, ttl))

    def wait(self, key: str, timeout: int) -> bool:
        """Waits until `wait_notify`, ms; for Dramatiq's barriers."""
        with translated(self._endpoint.shown):
            return bool(self._stock().wait(self._keys.limit(key), timeout))

    def wait_notify(self, key: str, ttl: int) -> None:
        """Ends waits."""
        with translated(self._endpoint.shown):
            self._stock().wait_notify(self._keys.limit(key), ttl)

    def close(self) -> None:
        """Closes the connections; the next call opens others."""
        with self._lock:
            client, self._client, self._backend = self._client, None, None
        if client is not None and self._pid == os.getpid():
            client.close()
