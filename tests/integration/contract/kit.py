"""What the contract's tests share: settings that fail fast, types of the fixtures, raw entries."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import dramatiq
import redis
from dramatiq.middleware import Middleware

from streamatiq import Lane, RedisStreamsBroker, Settings
from streamatiq.settings import RedisSettings

__all__ = ["FAST", "MakeBroker", "StartWorker", "add_raw", "plain_middleware", "stored_messages"]

#: A lost connection is an error at once, and workers try again soon.
FAST = Settings(redis=RedisSettings(max_retries=0, retry_delay=0.05))


class MakeBroker(Protocol):
    """Makes a broker on the shared server in this test's namespace; all are closed at the end."""

    def __call__(
        self,
        url: str | None = None,
        *,
        namespace: str | None = None,
        settings: Settings = FAST,
        middleware: list[Middleware] | None = None,
    ) -> RedisStreamsBroker: ...


class StartWorker(Protocol):
    """Starts a `dramatiq.Worker` in this process; those that still run are stopped at the end."""

    def __call__(
        self,
        broker: RedisStreamsBroker,
        *,
        threads: int = 2,
        queues: Collection[str] | None = None,
        prefetch: int | None = None,
    ) -> dramatiq.Worker: ...


def plain_middleware(*without: type[Middleware]) -> list[Middleware]:
    """Dramatiq's default list without some of it."""
    return [
        make() for make in dramatiq.middleware.default_middleware if not issubclass(make, without)
    ]


def stored_messages(
    client: redis.Redis, broker: RedisStreamsBroker, queue: str = "default"
) -> list[bytes]:
    """The messages of a queue's normal lane as they stand on the server, pending ones included."""
    entries: Any = client.xrange(broker.keys.queue(queue).entries(Lane.NORMAL))
    return [fields[b"m"] for _, fields in entries]


def add_raw(
    client: redis.Redis,
    broker: RedisStreamsBroker,
    *messages: bytes,
    queue: str = "default",
    field: str = "m",
) -> None:
    """Adds entries as another program would, all at one moment of the server's clock."""
    with client.pipeline(transaction=True) as pipe:
        for message in messages:
            pipe.xadd(broker.keys.queue(queue).entries(Lane.NORMAL), {field: message})
        pipe.execute()
