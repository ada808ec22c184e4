"""Contract, "Broker": enqueuing."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import Middleware
from tests.integration.contract.kit import FAST, MakeBroker, StartWorker, stored_messages
from tests.support import CuttingProxy, wait_until

from streamatiq import RedisStreamsBroker
from streamatiq.errors import BrokerConnectionError


class Enqueues(Middleware):
    """Records the signals of enqueuing."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int | None]] = []

    def before_enqueue(self, broker: dramatiq.Broker, message: Any, delay: int | None) -> None:
        self.seen.append(("before", message.message_id, delay))

    def after_enqueue(self, broker: dramatiq.Broker, message: Any, delay: int | None) -> None:
        self.seen.append(("after", message.message_id, delay))


@pytest.mark.parametrize("delay", [None, 0])
def test_a_message_without_delay_is_ready_at_once(
    broker: RedisStreamsBroker, client: redis.Redis, delay: int | None
) -> None:
    @dramatiq.actor(broker=broker)
    def act() -> None: ...

    message = broker.enqueue(act.message(), delay=delay)
    assert stored_messages(client, broker) == [message.encode()]
    assert client.zcard(broker.keys.queue("default").delayed) == 0


@pytest.mark.parametrize("delay", [50, timedelta(milliseconds=50)])
def test_a_given_delay_is_met(
    broker: RedisStreamsBroker, start_worker: StartWorker, delay: int | timedelta
) -> None:
    started: list[float] = []

    @dramatiq.actor(broker=broker)
    def act() -> None:
        started.append(time.monotonic())

    start_worker(broker)
    act.send()  # the worker reads by now
    wait_until(lambda: started)
    sent = time.monotonic()
    act.send_with_options(delay=delay)
    wait_until(lambda: len(started) == 2)
    # The server's clock counts whole milliseconds.
    assert 0.049 <= started[1] - sent < 1.0


def test_a_delayed_message_waits_on_the_server(
    broker: RedisStreamsBroker, client: redis.Redis, start_worker: StartWorker
) -> None:
    @dramatiq.actor(broker=broker)
    def act() -> None: ...

    worker = start_worker(broker)
    message = act.send_with_options(delay=60_000)
    keys = broker.keys.queue("default")
    assert client.zcard(keys.delayed) == 1
    assert client.hvals(keys.delayed_messages) == [message.encode()]
    assert stored_messages(client, broker) == []
    assert worker.consumers["default"].delay_queue.empty()


def test_an_earlier_delay_overtakes_a_later_one(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[str] = []

    @dramatiq.actor(broker=broker)
    def act(name: str) -> None:
        ran.append(name)

    start_worker(broker)
    act.send_with_options(args=("later",), delay=400)
    act.send_with_options(args=("sooner",), delay=50)
    wait_until(lambda: len(ran) == 2)
    assert ran == ["sooner", "later"]


@pytest.mark.parametrize("delay", [None, 0, 50])
def test_enqueue_returns_the_message_and_adds_no_options(
    broker: RedisStreamsBroker, client: redis.Redis, delay: int | None
) -> None:
    @dramatiq.actor(broker=broker)
    def act(number: int, *, name: str) -> None: ...

    message = act.message_with_options(args=(1,), kwargs={"name": "x"}, max_retries=3)
    before = message.asdict() | {"options": dict(message.options)}
    returned = broker.enqueue(message, delay=delay)
    assert returned == message
    assert returned.asdict() == before
    stored = stored_messages(client, broker) or client.hvals(
        broker.keys.queue("default").delayed_messages
    )
    assert [dramatiq.Message.decode(one) for one in stored] == [message]


@pytest.mark.parametrize("delay", [None, 0, 50])
def test_enqueue_emits_its_signals_with_message_and_delay(
    make_broker: MakeBroker, delay: int | None
) -> None:
    seen = Enqueues()
    broker = make_broker(middleware=[seen])

    @dramatiq.actor(broker=broker)
    def act() -> None: ...

    message = broker.enqueue(act.message(), delay=delay)
    assert seen.seen == [
        ("before", message.message_id, delay),
        ("after", message.message_id, delay),
    ]


def test_a_retry_emits_the_enqueue_signals_with_its_delay(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    seen = Enqueues()
    broker.add_middleware(seen)
    ran: list[int] = []

    @dramatiq.actor(broker=broker, max_retries=1)
    def act() -> None:
        ran.append(1)
        if len(ran) == 1:
            raise dramatiq.errors.Retry("again", delay=30)

    start_worker(broker)
    message = act.send()
    wait_until(lambda: len(ran) == 2)
    assert seen.seen == [
        ("before", message.message_id, None),
        ("after", message.message_id, None),
        ("before", message.message_id, 30),
        ("after", message.message_id, 30),
    ]


def test_enqueue_takes_a_message_proxy(broker: RedisStreamsBroker, client: redis.Redis) -> None:
    @dramatiq.actor(broker=broker)
    def act(number: int) -> None: ...

    message = act.message(1)
    proxy: Any = dramatiq.MessageProxy(message)
    assert broker.enqueue(proxy) is proxy
    assert stored_messages(client, broker) == [message.encode()]


def test_the_message_id_is_no_key(broker: RedisStreamsBroker, start_worker: StartWorker) -> None:
    ran: list[str] = []

    @dramatiq.actor(broker=broker)
    def act(name: str) -> None:
        ran.append(name)

    message = act.message("once")
    for _ in range(2):
        broker.enqueue(message)
        broker.enqueue(message, delay=50)
    start_worker(broker)
    broker.join("default", timeout=10_000)
    assert ran == ["once"] * 4


def test_an_enqueue_whose_reply_was_lost_is_stored_once(
    make_broker: MakeBroker, client: redis.Redis, proxy: CuttingProxy
) -> None:
    patient = FAST.model_copy(update={"redis": FAST.redis.model_copy(update={"max_retries": 3})})
    broker = make_broker(proxy.url, settings=patient)

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None: ...

    act.send(1)
    proxy.cut_reply(b"act", times=2)
    act.send(2)
    assert proxy.cuts == 2
    numbers = [dramatiq.Message.decode(one).args for one in stored_messages(client, broker)]
    assert numbers == [(1,), (2,)]


def test_enqueuing_without_a_server_raises_a_connection_error(make_broker: MakeBroker) -> None:
    broker = make_broker("redis://127.0.0.1:1/0")

    @dramatiq.actor(broker=broker)
    def act() -> None: ...

    with pytest.raises(BrokerConnectionError, match=r"127\.0\.0\.1:1") as raised:
        act.send()
    assert isinstance(raised.value, ConnectionClosed)


def test_a_message_that_cannot_be_encoded_is_refused_at_the_sender(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    @dramatiq.actor(broker=broker)
    def act(thing: object) -> None: ...

    with pytest.raises(TypeError):
        act.send(object())
    assert stored_messages(client, broker) == []
