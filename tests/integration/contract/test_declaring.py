"""Contract, "Broker": declaring queues and actors."""

from __future__ import annotations

import dramatiq
from dramatiq.middleware import Middleware
from tests.integration.contract.kit import MakeBroker, StartWorker
from tests.support import wait_until

from streamatiq import RedisStreamsBroker

#: Nothing listens there, and nobody may.
NOWHERE = "redis://127.0.0.1:1/0"


class Declarations(Middleware):
    """Records the signals of declarations."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def before_declare_queue(self, broker: dramatiq.Broker, queue_name: str) -> None:
        self.seen.append(("before_queue", queue_name))

    def after_declare_queue(self, broker: dramatiq.Broker, queue_name: str) -> None:
        self.seen.append(("after_queue", queue_name))

    def after_declare_delay_queue(self, broker: dramatiq.Broker, queue_name: str) -> None:
        self.seen.append(("after_delay_queue", queue_name))

    def before_declare_actor(self, broker: dramatiq.Broker, actor: dramatiq.Actor) -> None:
        self.seen.append(("before_actor", actor.actor_name))

    def after_declare_actor(self, broker: dramatiq.Broker, actor: dramatiq.Actor) -> None:
        self.seen.append(("after_actor", actor.actor_name))


def test_declaring_touches_no_server(make_broker: MakeBroker) -> None:
    broker = make_broker(NOWHERE)

    @dramatiq.actor(broker=broker, queue_name="orders")
    def act() -> None: ...

    broker.declare_queue("more")
    assert broker.get_actor("act") is act
    assert broker.get_declared_queues() == {"orders", "more"}
    assert broker.get_declared_actors() == {"act"}


def test_declare_queue_is_idempotent_and_emits_its_signals_once(make_broker: MakeBroker) -> None:
    seen = Declarations()
    broker = make_broker(NOWHERE, middleware=[seen])
    broker.declare_queue("orders")
    broker.declare_queue("orders")
    assert seen.seen == [("before_queue", "orders"), ("after_queue", "orders")]
    assert broker.get_declared_queues() == {"orders"}


def test_declaring_an_actor_emits_queue_and_actor_signals(make_broker: MakeBroker) -> None:
    seen = Declarations()
    broker = make_broker(NOWHERE, middleware=[seen])

    @dramatiq.actor(broker=broker, queue_name="orders")
    def act() -> None: ...

    assert seen.seen == [
        ("before_actor", "act"),
        ("before_queue", "orders"),
        ("after_queue", "orders"),
        ("after_actor", "act"),
    ]


def test_middleware_added_late_is_told_what_is_declared(make_broker: MakeBroker) -> None:
    broker = make_broker(NOWHERE)

    @dramatiq.actor(broker=broker)
    def act() -> None: ...

    seen = Declarations()
    broker.add_middleware(seen)
    assert sorted(seen.seen) == [("after_actor", "act"), ("after_queue", "default")]


def test_there_are_no_delay_queues(broker: RedisStreamsBroker, start_worker: StartWorker) -> None:
    @dramatiq.actor(broker=broker)
    def act() -> None: ...

    worker = start_worker(broker)
    act.send_with_options(delay=10)
    assert broker.get_declared_delay_queues() == set()
    assert set(worker.consumers) == {"default"}


def test_get_declared_queues_returns_a_copy(make_broker: MakeBroker) -> None:
    broker = make_broker(NOWHERE)
    broker.declare_queue("orders")
    broker.get_declared_queues().add("made up")
    assert broker.get_declared_queues() == {"orders"}


def test_a_queue_declared_under_a_running_worker_is_consumed(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[int] = []
    start_worker(broker)

    @dramatiq.actor(broker=broker, queue_name="late")
    def act(number: int) -> None:
        ran.append(number)

    act.send(1)
    wait_until(lambda: ran == [1])
