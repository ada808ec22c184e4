"""Events, brokers and in-process workers for tests of logs and faults.

Each test makes a broker of its own with `open_broker`; a worker runs in the test's process, so that
handlers are plain closures and failures of theirs are seen at once. `Bench.stop` is called by the
fixture, whatever the test did.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import dramatiq
import redis
from dramatiq.middleware import Middleware, default_middleware
from pydantic_core import from_json
from tests.support import wait_until

from streamatiq import Event, Laned, Partitioned, RedisStreamsBroker, Settings, on
from streamatiq.broker.reading import LogEntry

__all__ = ["Bench", "Echo", "Note", "Spread", "Urgent", "Vault", "note", "texts"]

#: Fast retries: Dramatiq waits 15 s unless it is told.
FAST: dict[str, Any] = {"min_backoff": 10, "max_backoff": 20}


class Note(Event, type="test.note", log=Partitioned(1)):
    """A cause."""

    text: str = ""


class Echo(Event, type="test.echo", log=Partitioned(1)):
    """An effect."""

    text: str = ""


class Vault(Event, type="test.vault", log=Partitioned(1)):
    """An effect whose log some tests make unusable."""

    text: str = ""


class Spread(Event, type="test.spread", log=Partitioned(4)):
    """An event of a partitioned log."""

    text: str = ""


class Urgent(Event, type="test.urgent", log=Laned()):
    """An event of a laned log."""

    text: str = ""


def note(text: object, **fields: Any) -> Note:
    return Note(ts_event=1, text=str(text), **fields)


def texts(entries: Any) -> list[str]:
    """The texts of read log entries, in order."""
    return [entry.event.text for entry in entries]


class Bench:
    """A broker, and workers in this process."""

    def __init__(
        self,
        url: str,
        namespace: str,
        *,
        middleware: list[Middleware] | None = None,
        **settings: Any,
    ) -> None:
        self.namespace = namespace
        settings.setdefault("redis", {"retry_delay": 0.02, "max_retries": 8})
        self.broker = RedisStreamsBroker(
            url=url,
            namespace=namespace,
            settings=Settings(**settings),
            middleware=[make() for make in default_middleware] + (middleware or []),
        )
        self.keys = self.broker.keys
        self.logs = self.broker.logs
        self._workers: list[dramatiq.Worker] = []
        self._stopped = False

    def on(self, *classes: type[Event], **options: Any) -> Callable[[Callable[..., Any]], Any]:
        """`@on` for this broker, with fast retries."""
        return on(*classes, broker=self.broker, **{**FAST, **options})

    def start(self, threads: int = 2) -> dramatiq.Worker:
        """A booted worker: its groups exist."""
        worker = dramatiq.Worker(self.broker, worker_timeout=50, worker_threads=threads)
        worker.start()
        self._workers.append(worker)
        return worker

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            for worker in self._workers:
                worker.stop()
            self.broker.close()

    def read(self, cls: type[Event], **how: Any) -> list[LogEntry[Any]]:
        return list(self.logs.read(cls, **how))

    def settled(self, *names: str, timeout_s: float = 10.0) -> None:
        """Wait until these subscriptions, or queues, hold nothing."""
        for name in names:
            self.broker.join(name, timeout=int(timeout_s * 1000))

    def echoes(self, count: int, cls: type[Event] = Echo, timeout_s: float = 10.0) -> list[str]:
        """Wait until the log of `cls` has at least `count` entries; their texts."""
        found: list[str] = []

        def enough() -> bool:
            found[:] = texts(self.logs.read(cls))
            return len(found) >= count

        wait_until(enough, timeout_s, lambda: f"{count} of {cls.__name__}, found {found}")
        return found

    def publish_elsewhere(self) -> None:
        """Publish as another process would: with connections of its own."""
        with Bench(self.broker.endpoint.url, self.namespace) as other:
            other.logs.publish(note("elsewhere"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def audit(self, client: redis.Redis, cls: type[Event], name: str) -> list[dict[str, Any]]:
        """The audit records of a subscription on the first stream of a log."""
        part = "0" if isinstance(cls.log, Partitioned) else "normal"
        key = self.keys.log(cls.event_type, part).subscription(name).audit
        entries: Any = client.xrange(key)
        return [from_json(fields[b"r"]) for _, fields in entries]
