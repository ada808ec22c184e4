"""Contract: one thread keeps strict order, and actors have priorities within a process."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import dramatiq
import pytest
import redis
from tests.integration.contract.kit import MakeBroker, StartWorker, add_raw
from tests.support import wait_until

from streamatiq import RedisStreamsBroker


def test_one_thread_keeps_strict_order(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(number)

    start_worker(broker, threads=1)
    for number in range(300):
        act.send(number)
    broker.join("default", timeout=10_000)
    assert ran == list(range(300))


def test_one_thread_keeps_strict_order_of_a_backlog(
    broker: RedisStreamsBroker, client: redis.Redis, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(number)

    add_raw(client, broker, *(act.message(number).encode() for number in range(300)))
    start_worker(broker, threads=1)
    broker.join("default", timeout=10_000)
    assert ran == list(range(300))


def test_messages_delayed_to_the_same_moment_keep_their_order(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(number)

    for number in range(100):
        act.send_with_options(args=(number,), delay=100)
    start_worker(broker, threads=1)
    broker.join("default", timeout=10_000)
    assert ran == list(range(100))


def test_messages_that_a_handler_sends_keep_their_order(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(number)

    @dramatiq.actor(broker=broker)
    def spread(count: int) -> None:
        for number in range(count):
            act.send(number)

    start_worker(broker, threads=1)
    spread.send(50)
    wait_until(lambda: len(ran) == 50)
    assert ran == list(range(50))


@pytest.mark.parametrize("how", ["requeue", "close"])
def test_handed_back_messages_keep_their_order(
    make_broker: MakeBroker, client: redis.Redis, how: str
) -> None:
    first = make_broker()

    @dramatiq.actor(broker=first)
    def act(number: int) -> None: ...

    # All in one millisecond of the server's clock, as a bulk enqueue is: ids "T-0" to "T-29".
    add_raw(client, first, *(act.message(number).encode() for number in range(30)))
    consumer = first.consume("default", prefetch=8, timeout=5_000)
    for _ in range(8):
        delivery = next(consumer)
        assert delivery is not None
        consumer.ack(delivery)
    held: list[Any] = [next(consumer) for _ in range(8)]
    assert [one.args[0] for one in held] == list(range(8, 16))
    if how == "requeue":
        consumer.requeue(held)
    first.close()

    second = make_broker()
    second.declare_queue("default")
    consumer = second.consume("default", prefetch=8, timeout=5_000)
    again: list[int] = []
    for _ in range(22):
        delivery = next(consumer)
        assert delivery is not None
        again.append(delivery.args[0])
        consumer.ack(delivery)
    assert again == list(range(8, 30))


@pytest.mark.parametrize("queues", [("lows", "highs"), ("one", "one")], ids=["two", "one"])
def test_actors_of_higher_priority_run_first_within_a_process(
    broker: RedisStreamsBroker,
    start_worker: StartWorker,
    gate: threading.Event,
    queues: tuple[str, str],
) -> None:
    """Of two messages in this process: what the prefetch asks for is in it."""
    ran: list[str] = []

    @dramatiq.actor(broker=broker)
    def block() -> None:
        ran.append("block")
        gate.wait(20)

    @dramatiq.actor(broker=broker, priority=10, queue_name=queues[0])
    def low() -> None:
        ran.append("low")

    @dramatiq.actor(broker=broker, priority=-10, queue_name=queues[1])
    def high() -> None:
        ran.append("high")

    worker = start_worker(broker, threads=1, prefetch=8)
    block.send()
    wait_until(lambda: ran == ["block"])
    low.send()
    high.send()
    with contextlib.suppress(AssertionError):  # the order below tells
        wait_until(lambda: worker.work_queue.qsize() == 2, 1)
    gate.set()
    wait_until(lambda: len(ran) == 3)
    assert ran == ["block", "high", "low"]
