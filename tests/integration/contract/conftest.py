"""Fixtures of the contract suite: brokers, workers in this process, and a gate for handlers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator

import dramatiq
import pytest
from dramatiq.middleware import Middleware
from tests.integration.contract.kit import FAST, MakeBroker, StartWorker

from streamatiq import RedisStreamsBroker, Settings

#: How often an idle thread of a worker looks whether it shall stop, ms.
LOOK_MS = 50
#: How long a worker may take to stop, ms.
STOP_MS = 10_000


@pytest.fixture
def make_broker(redis_url: str, namespace: str) -> Iterator[MakeBroker]:
    made: list[RedisStreamsBroker] = []
    own_namespace = namespace

    def make(
        url: str | None = None,
        *,
        namespace: str | None = None,
        settings: Settings = FAST,
        middleware: list[Middleware] | None = None,
    ) -> RedisStreamsBroker:
        made.append(
            RedisStreamsBroker(
                url or redis_url,
                namespace=namespace or own_namespace,
                settings=settings,
                middleware=middleware,
            )
        )
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def broker(make_broker: MakeBroker) -> RedisStreamsBroker:
    """A broker with Dramatiq's default middleware."""
    return make_broker()


@pytest.fixture
def start_worker(make_broker: MakeBroker) -> Iterator[StartWorker]:
    # Asks for `make_broker`, so that workers stop before their brokers close.
    started: list[dramatiq.Worker] = []

    def start(
        broker: RedisStreamsBroker,
        *,
        threads: int = 2,
        queues: Collection[str] | None = None,
        prefetch: int | None = None,
    ) -> dramatiq.Worker:
        worker = dramatiq.Worker(
            broker,
            queues=None if queues is None else set(queues),
            worker_timeout=LOOK_MS,
            worker_threads=threads,
        )
        if prefetch is not None:
            worker.queue_prefetch = prefetch  # what the variable dramatiq_queue_prefetch sets
        started.append(worker)
        worker.start()
        return worker

    yield start
    for worker in started:
        if any(thread.is_alive() for thread in (*worker.workers, *worker.consumers.values())):
            worker.stop(timeout=STOP_MS)


@pytest.fixture
def gate(start_worker: StartWorker) -> Iterator[threading.Event]:
    """Handlers wait on it; opened at the end, so that a failed test stops too."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def quick_second_chance(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What stays pending undecided, or was refused by the server, runs again soon."""
    for name in ("consumer.UNDECIDED_MS", "committer.RETRY_MS"):
        monkeypatch.setattr(f"streamatiq.broker.{name}", 100)
    return monkeypatch.undo
