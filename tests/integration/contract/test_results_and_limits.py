"""Contract: Dramatiq's results and rate limiters on the same server."""

from __future__ import annotations

import threading

import dramatiq
import pytest
import redis
from dramatiq import group, pipeline
from dramatiq.middleware import Middleware, SkipMessage
from dramatiq.rate_limits import BucketRateLimiter, ConcurrentRateLimiter
from dramatiq.rate_limits.backends import RedisBackend as LimitsBackend
from dramatiq.results import ResultFailure, Results
from dramatiq.results.backends import RedisBackend as ResultsBackend
from tests.integration.contract.kit import StartWorker
from tests.support import wait_until

from streamatiq import RedisStreamsBroker

#: How long to wait for a result, ms.
SOON = 10_000


@pytest.fixture
def results(broker: RedisStreamsBroker, client: redis.Redis, namespace: str) -> ResultsBackend:
    """Where `broker` keeps results."""
    backend = ResultsBackend(client=client, namespace=f"{namespace}-results")
    broker.add_middleware(Results(backend=backend))
    return backend


def test_a_result_is_stored(
    broker: RedisStreamsBroker, results: ResultsBackend, start_worker: StartWorker
) -> None:
    @dramatiq.actor(broker=broker, store_results=True)
    def add(x: int, y: int) -> int:
        return x + y

    start_worker(broker)
    assert add.send(1, 2).get_result(backend=results, block=True, timeout=SOON) == 3


def test_a_failure_is_stored_when_retries_are_exhausted(
    broker: RedisStreamsBroker, results: ResultsBackend, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker, store_results=True, max_retries=1, min_backoff=0, max_backoff=0)
    def act() -> None:
        ran.append(1)
        raise RuntimeError("no")

    start_worker(broker)
    with pytest.raises(ResultFailure, match="actor raised RuntimeError: no"):
        act.send().get_result(backend=results, block=True, timeout=SOON)
    assert len(ran) == 2


def test_a_result_after_retries_is_the_last_attempts(
    broker: RedisStreamsBroker, results: ResultsBackend, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker, store_results=True, min_backoff=0, max_backoff=0)
    def act() -> str:
        ran.append(1)
        if len(ran) == 1:
            raise RuntimeError("again")
        return "at last"

    start_worker(broker)
    assert act.send().get_result(backend=results, block=True, timeout=SOON) == "at last"


def test_a_skipped_message_stores_none_and_is_acked(
    broker: RedisStreamsBroker, results: ResultsBackend, start_worker: StartWorker
) -> None:
    class Skip(Middleware):
        def before_process_message(
            self, broker: dramatiq.Broker, message: dramatiq.MessageProxy
        ) -> None:
            raise SkipMessage("not today")

    broker.add_middleware(Skip())
    ran: list[int] = []

    @dramatiq.actor(broker=broker, store_results=True)
    def act() -> int:
        ran.append(1)
        return 1

    start_worker(broker)
    assert act.send().get_result(backend=results, block=True, timeout=SOON) is None
    broker.join("default", timeout=5_000)
    assert ran == []
    assert list(broker.dead_letters("default")) == []


def test_an_unknown_actor_stores_no_result_and_harms_nobody(
    broker: RedisStreamsBroker, results: ResultsBackend, start_worker: StartWorker
) -> None:
    @dramatiq.actor(broker=broker, store_results=True)
    def act() -> int:
        return 1

    start_worker(broker)
    broker.enqueue(act.message().copy(actor_name="unheard_of"))
    assert act.send().get_result(backend=results, block=True, timeout=SOON) == 1
    wait_until(lambda: list(broker.dead_letters("default")))


def test_results_of_groups_and_pipelines(
    broker: RedisStreamsBroker, results: ResultsBackend, start_worker: StartWorker
) -> None:
    @dramatiq.actor(broker=broker, store_results=True)
    def add(x: int, y: int) -> int:
        return x + y

    start_worker(broker)
    together = group((add.message(number, 1) for number in range(5)), broker=broker).run()
    assert list(together.get_results(block=True, timeout=SOON)) == [1, 2, 3, 4, 5]
    line = pipeline([add.message(1, 2), add.message(3)], broker=broker).run()
    assert line.get_result(block=True, timeout=SOON) == 6
    assert list(line.get_results(block=True, timeout=SOON)) == [3, 6]


def test_a_concurrent_rate_limiter_lets_one_run_at_a_time(
    broker: RedisStreamsBroker, client: redis.Redis, namespace: str, start_worker: StartWorker
) -> None:
    limiter = ConcurrentRateLimiter(
        LimitsBackend(client=client), f"{namespace}-mutex", limit=1, ttl=30_000
    )
    lock = threading.Lock()
    ran: list[int] = []
    together: list[int] = []

    @dramatiq.actor(broker=broker, min_backoff=5, max_backoff=20, max_retries=None)
    def act(number: int) -> None:
        with limiter.acquire():
            if not lock.acquire(blocking=False):
                together.append(number)
                return
            ran.append(number)
            lock.release()

    start_worker(broker, threads=4)
    for number in range(10):
        act.send(number)
    broker.join("default", timeout=15_000)
    assert sorted(ran) == list(range(10))
    assert together == []


def test_a_rate_that_is_exceeded_is_a_retry(
    broker: RedisStreamsBroker, client: redis.Redis, namespace: str, start_worker: StartWorker
) -> None:
    limiter = BucketRateLimiter(
        LimitsBackend(client=client), f"{namespace}-bucket", limit=1, bucket=60_000
    )
    ran: list[int] = []

    @dramatiq.actor(broker=broker, max_retries=1, min_backoff=0, max_backoff=0)
    def act() -> None:
        with limiter.acquire():
            ran.append(1)

    start_worker(broker, threads=1)
    act.send()
    act.send()
    (letter,) = wait_until(lambda: list(broker.dead_letters("default")))
    assert ran == [1]
    assert letter.error.startswith("RateLimitExceeded: ")
    assert letter.attempts == 2
