"""Contract, "Consumer": ack, nack, requeue and close, in every order and from any thread."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.errors import ConnectionClosed
from tests.conftest import OwnServer
from tests.integration.contract.kit import MakeBroker, StartWorker
from tests.support import wait_gone, wait_until

from streamatiq import EmbeddedServer, RedisStreamsBroker
from streamatiq.broker.connections import Endpoint, Link
from streamatiq.errors import BrokerConnectionError

#: What the worker passes, ms.
TIMEOUT_MS = 5_000


@pytest.fixture
def act(broker: RedisStreamsBroker) -> dramatiq.Actor[[int], None]:
    @dramatiq.actor(broker=broker)
    def act(number: int) -> None: ...

    return act


def _take(broker: RedisStreamsBroker, prefetch: int = 10) -> tuple[Any, Any]:
    consumer = broker.consume("default", prefetch=prefetch, timeout=TIMEOUT_MS)
    delivery = next(consumer)
    assert delivery is not None
    return consumer, delivery


def test_ack_is_idempotent(broker: RedisStreamsBroker, act: dramatiq.Actor[[int], None]) -> None:
    act.send(0)
    act.send(1)
    act.send(2)
    consumer, first = _take(broker, prefetch=1)
    for _ in range(3):
        consumer.ack(first)
    # One slot was freed, not three.
    second = next(consumer)
    assert second is not None
    assert second.args == (1,)
    assert next(broker.consume("default", prefetch=1, timeout=200)) is None
    consumer.ack(second)
    wait_until(lambda: broker.backlog("default") == 1)


def test_nack_is_idempotent(broker: RedisStreamsBroker, act: dramatiq.Actor[[int], None]) -> None:
    message = act.send(0)
    consumer, delivery = _take(broker)
    delivery.stuff_exception(RuntimeError("no"))
    for _ in range(3):
        consumer.nack(delivery)
    consumer.ack(delivery)
    broker.join("default", timeout=5_000)
    assert [one.data for one in broker.dead_letters("default")] == [message.encode()]


def test_nack_after_ack_changes_nothing(
    broker: RedisStreamsBroker, act: dramatiq.Actor[[int], None]
) -> None:
    act.send(0)
    consumer, delivery = _take(broker)
    consumer.ack(delivery)
    consumer.nack(delivery)
    consumer.requeue([delivery])
    broker.join("default", timeout=5_000)
    assert list(broker.dead_letters("default")) == []


def test_ack_from_other_threads_at_the_same_time(
    broker: RedisStreamsBroker, act: dramatiq.Actor[[int], None]
) -> None:
    for number in range(8):
        act.send(number)
    consumer = broker.consume("default", prefetch=8, timeout=TIMEOUT_MS)
    deliveries: list[Any] = [next(consumer) for _ in range(8)]
    start = threading.Barrier(8)

    def ack(delivery: Any) -> None:
        start.wait()
        consumer.ack(delivery)

    threads = [threading.Thread(target=ack, args=(one,)) for one in deliveries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    broker.join("default", timeout=5_000)


def test_ack_on_a_newer_consumer_object(
    broker: RedisStreamsBroker, act: dramatiq.Actor[[int], None]
) -> None:
    act.send(0)
    act.send(1)
    older, delivery = _take(broker, prefetch=1)
    older.close()
    newer = broker.consume("default", prefetch=1, timeout=300)
    assert next(newer) is None  # the slot is still taken
    newer.ack(delivery)
    second = next(broker.consume("default", prefetch=1, timeout=TIMEOUT_MS))
    assert second is not None
    assert second.args == (1,)


def test_ack_on_an_older_consumer_object(
    broker: RedisStreamsBroker, act: dramatiq.Actor[[int], None]
) -> None:
    act.send(0)
    older = broker.consume("default", prefetch=1, timeout=300)
    older.close()
    _, delivery = _take(broker, prefetch=1)
    older.ack(delivery)
    broker.join("default", timeout=5_000)


def test_closing_a_consumer_twice_is_harmless_and_keeps_what_runs(
    broker: RedisStreamsBroker, act: dramatiq.Actor[[int], None]
) -> None:
    act.send(0)
    consumer, delivery = _take(broker)
    consumer.close()
    consumer.close()
    consumer.ack(delivery)
    broker.join("default", timeout=5_000)


def test_requeue_of_nothing(broker: RedisStreamsBroker) -> None:
    broker.declare_queue("default")
    consumer = broker.consume("default", prefetch=1, timeout=100)
    nothing: Iterator[dramatiq.MessageProxy] = (one for one in ())
    consumer.requeue(nothing)
    consumer.requeue([])


def test_requeued_messages_run_again_in_order_and_burn_no_attempt(
    broker: RedisStreamsBroker, client: redis.Redis, act: dramatiq.Actor[[int], None]
) -> None:
    act.send(0)
    act.send(1)
    consumer = broker.consume("default", prefetch=2, timeout=TIMEOUT_MS)
    held: list[Any] = [next(consumer), next(consumer)]
    consumer.requeue(one for one in held)
    consumer.requeue(held)  # once more changes nothing
    again: list[Any] = []
    for _ in held:
        delivery = next(consumer)
        assert delivery is not None
        again.append((delivery.args[0], delivery.attempt))
        pending: Any = client.xpending_range(
            delivery.source.keys.entries, "default", delivery.entry_id, delivery.entry_id, 1
        )
        assert pending[0]["times_delivered"] == 1
        consumer.ack(delivery)
    assert again == [(0, 1), (1, 1)]
    broker.join("default", timeout=5_000)


@pytest.mark.parametrize("call", ["requeue", "requeue nothing", "close"])
@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
def test_requeue_and_close_raise_only_connection_errors_without_a_server(
    make_broker: MakeBroker,
    own_server: OwnServer,
    monkeypatch: pytest.MonkeyPatch,
    silent: bool,
    call: str,
) -> None:
    monkeypatch.setattr("streamatiq.broker.process.FLUSH_S", 0.2)
    server = own_server()
    broker = make_broker(server.url)

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None: ...

    act.send(0)
    act.send(1)
    consumer, first = _take(broker)
    second = next(consumer)
    assert second is not None
    server.stop()
    with socket.socket(socket.AF_UNIX) as listener:
        if silent:
            # Something takes connections there, and never answers.
            listener.bind(server.url.removeprefix("unix://"))
            listener.listen()
        with contextlib.suppress(BrokerConnectionError):
            consumer.ack(first)
        with contextlib.suppress(BrokerConnectionError):
            if call == "requeue":
                consumer.requeue([second])
            elif call == "requeue nothing":
                consumer.requeue(iter(()))
            else:
                consumer.close()
                consumer.close()
    broker.close()  # tells what stays pending; raises nothing


def test_what_was_settled_without_a_server_is_committed_when_it_is_back(
    make_broker: MakeBroker, own_server: OwnServer, start_worker: StartWorker
) -> None:
    server = own_server()
    broker = make_broker(server.url)
    gate = threading.Event()
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(number)
        gate.wait(20)

    worker = start_worker(broker, threads=2)
    act.send(0)
    act.send(1)
    wait_until(lambda: len(ran) == 2)
    server.stop()
    gate.set()
    again = own_server()
    assert again.url == server.url
    patient = make_broker(again.url)
    patient.declare_queue("default")
    patient.join("default", timeout=15_000)
    assert sorted(ran) == [0, 1]
    # The worker goes on by itself.
    patient.enqueue(act.message(2))
    wait_until(lambda: 2 in ran)
    patient.join("default", timeout=15_000)
    assert sorted(ran) == [0, 1, 2]
    assert all(thread.is_alive() for thread in worker.workers)


def test_an_embedded_server_that_cannot_start_again_is_a_lost_connection(
    make_broker: MakeBroker, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    broker = make_broker(f"embedded://{data}")

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None: ...

    act.send(0)
    act.send(1)
    consumer, first = _take(broker, prefetch=1)
    server = EmbeddedServer.ensure(data)  # adopts it
    os.kill(server.pid, signal.SIGKILL)
    wait_gone(server.pid)
    data.rename(tmp_path / "elsewhere")
    data.write_text("in the way")
    consumer.ack(first)
    for _ in range(2):  # the first one finds its connection lost, the next can open none
        with pytest.raises(BrokerConnectionError):
            act.send(2)
    data.unlink()
    (tmp_path / "elsewhere").rename(data)
    # What was acked meanwhile is committed, and not handed out again.
    second = next(broker.consume("default", prefetch=1, timeout=10_000))
    assert second is not None
    assert second.args == (1,)
    consumer.ack(second)
    broker.join("default", timeout=10_000)


def test_a_time_out_and_a_refused_connection_are_connection_errors_to_dramatiq() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        link = Link(Endpoint(f"redis://127.0.0.1:{port}"), timeout_s=0.1)
        with pytest.raises(BrokerConnectionError) as timed_out:
            link.send("PING")
        link.close()
    with pytest.raises(BrokerConnectionError) as refused:
        link.send("PING")
    for raised in (timed_out, refused):
        assert isinstance(raised.value, ConnectionClosed)
        assert f"127.0.0.1:{port}" in str(raised.value)
