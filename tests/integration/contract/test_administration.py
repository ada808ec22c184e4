"""Contract, "Broker": flush and join."""

from __future__ import annotations

import threading
import time

import dramatiq
import pytest
import redis
from dramatiq.errors import QueueJoinTimeout, QueueNotFound
from tests.integration.contract.kit import MakeBroker, StartWorker, stored_messages
from tests.support import wait_until

from streamatiq import RedisStreamsBroker


def _fill(broker: RedisStreamsBroker, queue: str) -> dramatiq.Actor[[], None]:
    @dramatiq.actor(broker=broker, queue_name=queue, actor_name=f"act_{queue}")
    def act() -> None: ...

    act.send()
    act.send()
    act.send_with_options(delay=60_000)
    assert broker.backlog(queue) == 3
    return act


def test_flush_drops_queued_and_delayed_messages_of_one_queue(
    broker: RedisStreamsBroker, client: redis.Redis, start_worker: StartWorker
) -> None:
    _fill(broker, "one")
    _fill(broker, "two")
    broker.flush("one")
    assert broker.backlog("one") == 0
    assert stored_messages(client, broker, "one") == []
    keys = broker.keys.queue("one")
    assert client.exists(keys.delayed, keys.delayed_messages) == 0
    assert broker.backlog("two") == 3


def test_flush_all_drops_what_all_declared_queues_hold(broker: RedisStreamsBroker) -> None:
    _fill(broker, "one")
    _fill(broker, "two")
    broker.flush_all()
    assert [broker.backlog(queue) for queue in ("one", "two")] == [0, 0]


def test_flush_drops_parked_and_handed_back_messages(broker: RedisStreamsBroker) -> None:
    act = _fill(broker, "one")
    consumer = broker.consume("one", prefetch=1, timeout=5_000)
    delivery = next(consumer)
    assert delivery is not None
    broker.close()
    broker.flush("one")
    assert broker.backlog("one") == 0
    act.send_with_options(kwargs={}, colour="new")
    delivery = next(broker.consume("one", prefetch=1, timeout=5_000))
    assert delivery is not None
    assert delivery.options == {"colour": "new"}


def test_flush_of_an_empty_queue_and_before_any_worker(broker: RedisStreamsBroker) -> None:
    broker.declare_queue("empty")
    broker.flush("empty")
    broker.flush_all()
    assert broker.backlog("empty") == 0


def test_flush_lets_the_running_message_end_and_the_worker_goes_on(
    broker: RedisStreamsBroker, start_worker: StartWorker, gate: threading.Event
) -> None:
    ran: list[str] = []

    @dramatiq.actor(broker=broker)
    def act(name: str) -> None:
        if name == "running":
            gate.wait(20)
        ran.append(name)

    worker = start_worker(broker, threads=1, prefetch=1)
    act.send("running")
    wait_until(lambda: worker.work_queue.unfinished_tasks == 1 and worker.work_queue.empty())
    act.send("queued")
    act.send_with_options(args=("delayed",), delay=30)
    broker.flush("default")
    gate.set()
    wait_until(lambda: ran == ["running"])
    act.send("after")
    broker.join("default", timeout=10_000)
    assert ran == ["running", "after"]


def test_flush_keeps_dead_letters(broker: RedisStreamsBroker, start_worker: StartWorker) -> None:
    @dramatiq.actor(broker=broker, max_retries=0)
    def act() -> None:
        raise RuntimeError("no")

    start_worker(broker)
    act.send()
    wait_until(lambda: list(broker.dead_letters("default")))
    broker.flush("default")
    assert len(list(broker.dead_letters("default"))) == 1


def test_join_returns_at_once_when_nothing_is_there(broker: RedisStreamsBroker) -> None:
    broker.declare_queue("default")
    before = time.monotonic()
    broker.join("default", timeout=10_000)
    assert time.monotonic() - before < 2


def test_join_of_a_queue_that_was_never_declared_is_an_error(broker: RedisStreamsBroker) -> None:
    with pytest.raises(QueueNotFound):
        broker.join("unheard_of", timeout=1)


@pytest.mark.parametrize("held", ["ready", "pending", "delayed"])
def test_join_counts_ready_pending_and_delayed_messages(
    broker: RedisStreamsBroker, held: str
) -> None:
    @dramatiq.actor(broker=broker)
    def act() -> None: ...

    act.send_with_options(delay=60_000 if held == "delayed" else None)
    if held == "pending":
        assert next(broker.consume("default", prefetch=1, timeout=5_000)) is not None
    before = time.monotonic()
    with pytest.raises(QueueJoinTimeout):
        broker.join("default", timeout=100)
    assert 0.099 <= time.monotonic() - before < 3
    assert broker.backlog("default") == 1


def test_join_counts_a_retry_that_waits(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker, min_backoff=60_000)
    def act() -> None:
        ran.append(1)
        raise RuntimeError("no")

    start_worker(broker)
    act.send()
    wait_until(lambda: ran)
    with pytest.raises(QueueJoinTimeout):
        broker.join("default", timeout=300)


def test_join_waits_for_what_runs_and_is_committed(
    make_broker: MakeBroker, broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[int] = []
    done = threading.Event()

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        if number < 5:
            act.send_with_options(args=(number + 1,), delay=10)
        ran.append(number)

    start_worker(broker)
    elsewhere = make_broker()
    elsewhere.declare_queue("default")
    act.send(0)
    joining = threading.Thread(
        target=lambda: (elsewhere.join("default", timeout=10_000), done.set())
    )
    joining.start()
    joining.join()
    assert done.is_set()
    assert ran == [0, 1, 2, 3, 4, 5]
    assert elsewhere.backlog("default") == 0
