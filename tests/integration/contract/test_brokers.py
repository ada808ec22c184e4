"""Contract, "Broker": close, use again, several brokers in one process."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import dramatiq
import redis
from dramatiq.middleware import Middleware
from tests.conftest import OwnServer
from tests.integration.contract.kit import MakeBroker, StartWorker
from tests.support import wait_gone, wait_until

from streamatiq import EmbeddedServer, RedisStreamsBroker


def test_a_broker_serves_a_second_worker_after_the_first_stopped(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker, min_backoff=0, max_backoff=0)
    def act(number: int) -> None:
        ran.append(number)
        if number == 1 and ran.count(1) == 1:
            raise RuntimeError("again")

    for number in range(3):
        worker = start_worker(broker)
        act.send(number)
        broker.join("default", timeout=5_000)
        worker.stop()
    assert ran == [0, 1, 1, 2]


def test_a_broker_can_be_used_after_close(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(number)

    for number in range(2):
        worker = start_worker(broker)
        act.send(number)
        broker.join("default", timeout=5_000)
        worker.stop()
        broker.close()
        broker.close()
    assert ran == [0, 1]


def test_closing_a_broker_releases_its_connections_and_threads(
    make_broker: MakeBroker, own_server: OwnServer, start_worker: StartWorker
) -> None:
    server = own_server()
    broker = make_broker(server.url)
    before = set(threading.enumerate())

    @dramatiq.actor(broker=broker)
    def act() -> None: ...

    worker = start_worker(broker)
    act.send()
    broker.join("default", timeout=5_000)
    worker.stop()
    broker.close()
    client = redis.Redis.from_url(server.url, protocol=2)
    try:
        wait_until(lambda: len(client.client_list()) == 1)  # its own
    finally:
        client.close()
    assert set(threading.enumerate()) <= before


def test_namespaces_do_not_mix(
    make_broker: MakeBroker, namespace: str, start_worker: StartWorker
) -> None:
    ran: list[str] = []
    actors = []
    for name in ("a", "b"):
        broker = make_broker(namespace=f"{namespace}{name}")

        @dramatiq.actor(broker=broker)
        def act(sent_to: str, name: str = name) -> None:
            ran.append(f"{sent_to} in {name}")

        actors.append(act)
    start_worker(actors[0].broker)
    actors[0].send("a")
    actors[1].send("b")
    actors[0].broker.join("default", timeout=5_000)
    assert ran == ["a in a"]
    start_worker(actors[1].broker)
    actors[1].broker.join("default", timeout=5_000)
    assert ran == ["a in a", "b in b"]


def test_a_handler_of_one_broker_sends_to_another(
    make_broker: MakeBroker, namespace: str, start_worker: StartWorker
) -> None:
    ran: list[int] = []
    here, there = make_broker(), make_broker(namespace=f"{namespace}there")

    @dramatiq.actor(broker=there)
    def receive(number: int) -> None:
        ran.append(number)

    @dramatiq.actor(broker=here)
    def act(number: int) -> None:
        receive.send(number)

    start_worker(here)
    start_worker(there)
    for number in range(10):
        act.send(number)
    here.join("default", timeout=5_000)
    there.join("default", timeout=5_000)
    assert sorted(ran) == list(range(10))


def test_a_callback_on_another_broker_is_stored_there(
    make_broker: MakeBroker, namespace: str, start_worker: StartWorker
) -> None:
    """An after-hook of one broker enqueues on another one."""
    told: list[int] = []
    here, there = make_broker(), make_broker(namespace=f"{namespace}there")

    @dramatiq.actor(broker=there)
    def receive(number: int) -> None:
        told.append(number)

    class Tell(Middleware):
        def after_process_message(self, broker: Any, message: Any, **outcome: Any) -> None:
            receive.send(message.args[0])

    here.add_middleware(Tell())

    @dramatiq.actor(broker=here)
    def act(number: int) -> None: ...

    start_worker(here)
    start_worker(there)
    act.send(7)
    here.join("default", timeout=5_000)
    wait_until(lambda: told == [7])


def test_closing_a_broker_stops_the_embedded_server_that_it_started(
    make_broker: MakeBroker, tmp_path: Path, start_worker: StartWorker
) -> None:
    broker = make_broker(f"embedded://{tmp_path / 'data'}")
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act() -> None:
        ran.append(1)

    act.send()
    pid = EmbeddedServer.ensure(tmp_path / "data").pid  # adopts it
    worker = start_worker(broker)
    broker.join("default", timeout=5_000)
    worker.stop()
    broker.close()
    wait_gone(pid)
    assert ran == [1]
