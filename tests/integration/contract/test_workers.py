"""Contract, "Consumer": workers start, pause, resume, share a queue and stop."""

from __future__ import annotations

import threading
import time
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.middleware import Middleware
from tests.integration.contract.kit import MakeBroker, StartWorker
from tests.support import wait_until

from streamatiq import Lane, RedisStreamsBroker
from streamatiq.broker.reclaimer import Reclaimer
from streamatiq.errors import BrokerConnectionError


class Attempts(Middleware):
    """Records how each message starts."""

    def __init__(self, ran: list[Any], name: str) -> None:
        self.ran = ran
        self.name = name

    def before_process_message(self, broker: Any, message: dramatiq.MessageProxy) -> None:
        self.ran.append((self.name, message.args[0], message.options.get("retries", 0)))


@pytest.fixture
def quick_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dramatiq sleeps 3 s where a consumer ends, a pause included."""
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.05)


@pytest.mark.usefixtures("quick_pause")
def test_a_paused_worker_runs_nothing_and_a_resumed_one_goes_on(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(number)

    worker = start_worker(broker)
    act.send(0)
    broker.join("default", timeout=5_000)
    for first in (1, 11):
        worker.pause()
        for number in range(first, first + 10):
            act.send(number)
        with pytest.raises(dramatiq.errors.QueueJoinTimeout):
            broker.join("default", timeout=300)
        assert len(ran) == first
        worker.resume()
        broker.join("default", timeout=10_000)
        assert sorted(ran) == list(range(first + 10))


@pytest.mark.usefixtures("quick_pause")
def test_a_paused_worker_keeps_nothing_from_others(
    make_broker: MakeBroker, start_worker: StartWorker
) -> None:
    ran: list[Any] = []

    def declare(name: str) -> tuple[RedisStreamsBroker, dramatiq.Actor[[int], None]]:
        broker = make_broker()
        broker.add_middleware(Attempts(ran, name))

        @dramatiq.actor(broker=broker)
        def act(number: int) -> None: ...

        return broker, act

    resting, act = declare("resting")
    worker = start_worker(resting)
    act.send(0)
    resting.join("default", timeout=5_000)
    worker.pause()
    for number in range(1, 11):
        act.send(number)
    working, _ = declare("working")
    start_worker(working)
    working.join("default", timeout=5_000)
    assert ran[0] == ("resting", 0, 0)
    assert sorted(ran[1:]) == [("working", number, 0) for number in range(1, 11)]


def test_a_stopping_worker_hands_back_and_another_runs_it_at_once(
    make_broker: MakeBroker,
    client: redis.Redis,
    start_worker: StartWorker,
    gate: threading.Event,
) -> None:
    ran: list[Any] = []

    def declare(name: str) -> tuple[RedisStreamsBroker, dramatiq.Actor[[int], None]]:
        broker = make_broker()
        broker.add_middleware(Attempts(ran, name))

        @dramatiq.actor(broker=broker)
        def act(number: int) -> None:
            if name == "stopping":
                gate.wait(20)

        return broker, act

    first, act = declare("stopping")
    worker = start_worker(first, threads=2)
    for number in range(2):
        act.send(number)
    wait_until(lambda: len(ran) == 2)
    for number in range(2, 12):
        act.send(number)
    second, _ = declare("other")
    start_worker(second, threads=1)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    # While the handlers of the first one still run.
    wait_until(lambda: len(ran) == 12, 5)
    assert stopping.is_alive()
    assert sorted(ran) == [
        *(("other", number, 0) for number in range(2, 12)),
        *(("stopping", number, 0) for number in range(2)),
    ]
    gate.set()
    stopping.join()
    second.join("default", timeout=5_000)
    assert len(ran) == 12
    assert list(second.dead_letters("default")) == []


def test_a_stopping_worker_reads_no_more(
    broker: RedisStreamsBroker,
    client: redis.Redis,
    start_worker: StartWorker,
    gate: threading.Event,
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(number)
        gate.wait(20)

    worker = start_worker(broker, threads=2)
    act.send(0)
    wait_until(lambda: ran == [0])
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    wait_until(lambda: not worker.workers[0].running and not worker.workers[1].running)
    act.send(1)
    keys = broker.keys.queue("default")
    with pytest.raises(dramatiq.errors.QueueJoinTimeout):
        broker.join("default", timeout=300)
    pending: Any = client.xpending(keys.entries(Lane.NORMAL), "default")
    assert pending["pending"] == 1  # the running one
    gate.set()
    stopping.join()
    assert ran == [0]
    assert broker.backlog("default") == 1


def test_a_stopped_worker_has_committed_what_it_ran(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(number)

    for number in range(500):
        act.send(number)
    worker = start_worker(broker, threads=4)
    wait_until(lambda: len(ran) >= 50)
    worker.stop()
    assert broker.backlog("default") == 500 - len(ran)


def test_two_workers_share_a_queue_and_run_each_message_once(
    make_broker: MakeBroker, start_worker: StartWorker
) -> None:
    ran: list[Any] = []
    both = threading.Barrier(2)

    def declare(name: str) -> tuple[RedisStreamsBroker, dramatiq.Actor[[int], None]]:
        broker = make_broker()

        @dramatiq.actor(broker=broker)
        def act(number: int) -> None:
            if number < 2:
                both.wait(20)
            ran.append((name, number))

        return broker, act

    brokers = [declare("one"), declare("two")]
    for broker, _ in brokers:
        start_worker(broker, threads=1, prefetch=1)
    broker, act = brokers[0]
    for number in range(200):
        act.send(number)
    broker.join("default", timeout=10_000)
    assert sorted(number for _, number in ran) == list(range(200))
    assert {name for name, _ in ran} == {"one", "two"}


def test_a_worker_that_starts_while_another_sweeps_is_not_taken_for_dead(
    make_broker: MakeBroker,
    client: redis.Redis,
    namespace: str,
    start_worker: StartWorker,
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[int] = []
    swept = threading.Event()
    sweep = Reclaimer._sweep

    def late(self: Reclaimer, *args: Any) -> None:
        wait_until(lambda: len(ran) == 2)  # the other one reads by now: each runs a message
        sweep(self, *args)
        swept.set()

    monkeypatch.setattr(Reclaimer, "_sweep", late)
    for name in ("sweeping", "starting"):
        broker = make_broker()

        @dramatiq.actor(broker=broker)
        def act(number: int) -> None:
            ran.append(number)
            gate.wait(20)

        start_worker(broker, threads=1, prefetch=1)
        if name == "sweeping":
            wait_until(lambda lease=broker.keys.members.lease: client.exists(lease))
    act.send(0)
    act.send(1)
    wait_until(lambda: len(ran) == 2)
    assert swept.wait(10)
    gate.set()
    broker.join("default", timeout=10_000)
    assert sorted(ran) == [0, 1]
    assert list(client.scan_iter(f"*{namespace}:*fence*")) == []


def test_a_worker_without_a_server_does_not_start(
    make_broker: MakeBroker,
) -> None:
    broker = make_broker("redis://127.0.0.1:1/0")
    broker.declare_queue("default")
    worker = dramatiq.Worker(broker, worker_timeout=100)
    before = time.monotonic()
    with pytest.raises(BrokerConnectionError):
        worker.start()
    assert time.monotonic() - before < 5
    assert worker.consumers == {}
