"""Contract: what fails between a handler and its ack loses no work (Dramatiq's #545 and kin)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.middleware import Middleware, MiddlewareError, Retries
from tests.integration.contract.kit import MakeBroker, StartWorker, plain_middleware
from tests.support import CuttingProxy, wait_until

from streamatiq import Lane, RedisStreamsBroker


class Refusal(Middleware):
    """Refuses to enqueue, `times` times, messages of one actor."""

    def __init__(self, actor_name: str, times: int = 1) -> None:
        self.actor_name = actor_name
        self.times = times

    def before_enqueue(self, broker: dramatiq.Broker, message: Any, delay: int | None) -> None:
        if message.actor_name == self.actor_name and self.times > 0:
            self.times -= 1
            raise MiddlewareError("refused")


def _parked(client: redis.Redis, broker: RedisStreamsBroker) -> Callable[[], object]:
    return lambda: client.zcard(broker.keys.queue("default").lane(Lane.NORMAL).parked)


def test_a_retry_that_is_refused_keeps_the_message_pending_and_it_runs_again(
    broker: RedisStreamsBroker, start_worker: StartWorker, quick_second_chance: object
) -> None:
    refusal = Refusal("act", times=0)
    broker.add_middleware(refusal)
    ran: list[int] = []

    @dramatiq.actor(broker=broker, min_backoff=0, max_backoff=0)
    def act() -> None:
        ran.append(1)
        if len(ran) == 1:
            raise RuntimeError("again")

    act.send()
    refusal.times = 1
    start_worker(broker)
    wait_until(lambda: len(ran) == 2)
    assert refusal.times == 0
    broker.join("default", timeout=5_000)
    assert list(broker.dead_letters("default")) == []


def test_a_retry_that_cannot_be_encoded_keeps_the_message_pending(
    broker: RedisStreamsBroker, start_worker: StartWorker, quick_second_chance: object
) -> None:
    ran: list[Any] = []

    @dramatiq.actor(broker=broker, min_backoff=0, max_backoff=0)
    def act(items: list[Any]) -> None:
        ran.append(list(items))
        if len(ran) == 1:
            items.append(object())
            raise RuntimeError("again")

    start_worker(broker)
    act.send([1])
    wait_until(lambda: len(ran) == 2)
    assert ran == [[1], [1]]
    broker.join("default", timeout=5_000)


def test_a_retry_that_the_server_refuses_keeps_the_message_pending(
    broker: RedisStreamsBroker,
    client: redis.Redis,
    start_worker: StartWorker,
    quick_second_chance: object,
) -> None:
    keys = broker.keys.queue("default")
    ran: list[int] = []

    @dramatiq.actor(broker=broker, min_backoff=60_000)
    def act() -> None:
        ran.append(1)
        if len(ran) == 1:
            client.set(keys.delayed, "not ours")
            raise RuntimeError("again")

    start_worker(broker)
    message = act.send()
    wait_until(_parked(client, broker))
    (entry,) = client.xrange(keys.entries(Lane.NORMAL))  # type: ignore[misc]
    assert entry[1][b"m"] == message.encode()
    client.delete(keys.delayed)
    wait_until(lambda: len(ran) == 2)
    broker.join("default", timeout=5_000)


def test_a_retry_and_the_end_of_its_message_are_one_step(
    make_broker: MakeBroker,
    client: redis.Redis,
    proxy: CuttingProxy,
    start_worker: StartWorker,
) -> None:
    broker = make_broker(proxy.url)
    ran: list[int] = []

    @dramatiq.actor(broker=broker, min_backoff=0, max_backoff=0)
    def act() -> None:
        ran.append(1)
        if len(ran) == 1:
            # The next request that carries a traceback is the settle with the retry.
            proxy.cut_reply(b"fails on purpose", times=2)
            raise RuntimeError("fails on purpose")

    start_worker(broker)
    act.send()
    broker.join("default", timeout=10_000)
    assert proxy.cuts == 2
    assert len(ran) == 2


def test_the_original_is_pending_until_its_retry_is_stored(
    make_broker: MakeBroker,
    client: redis.Redis,
    proxy: CuttingProxy,
    start_worker: StartWorker,
) -> None:
    broker = make_broker(proxy.url)
    counted: list[int] = []

    class Count(Middleware):
        def after_enqueue(self, broker: Any, message: Any, delay: int | None) -> None:
            counted.append(broker.backlog("default"))

        def after_ack(self, broker: Any, message: Any) -> None:
            counted.append(broker.backlog("default"))

    broker.add_middleware(Count())

    @dramatiq.actor(broker=broker, min_backoff=60_000)
    def act() -> None:
        raise RuntimeError("again")

    start_worker(broker)
    act.send()
    wait_until(lambda: len(counted) == 3)
    # Neither none, as where the ack is not stopped, nor two, as where the retry comes first.
    assert counted == [1, 1, 1]


def test_without_retries_an_exception_keeps_the_message_pending_and_it_runs_again(
    make_broker: MakeBroker, start_worker: StartWorker, quick_second_chance: object
) -> None:
    broker = make_broker(middleware=plain_middleware(Retries))
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act() -> None:
        ran.append(1)
        if len(ran) == 1:
            raise RuntimeError("no")

    start_worker(broker)
    act.send()
    wait_until(lambda: len(ran) == 2)
    broker.join("default", timeout=5_000)
    assert list(broker.dead_letters("default")) == []


def test_without_retries_an_exception_frees_the_slot(
    make_broker: MakeBroker, client: redis.Redis, start_worker: StartWorker
) -> None:
    broker = make_broker(middleware=plain_middleware(Retries))
    ran: list[str] = []

    @dramatiq.actor(broker=broker)
    def act(name: str) -> None:
        ran.append(name)
        if name == "bad":
            raise RuntimeError("no")

    start_worker(broker, threads=1, prefetch=1)
    act.send("bad")
    act.send("good")
    wait_until(lambda: ran == ["bad", "good"])
    wait_until(_parked(client, broker))
    wait_until(lambda: broker.backlog("default") == 1)


@pytest.mark.parametrize("added_anew", [False, True])
def test_middleware_changed_in_place_is_seen(
    broker: RedisStreamsBroker, start_worker: StartWorker, added_anew: bool
) -> None:
    """Retries is taken away, and perhaps something else put into its place."""
    ran: list[str] = []

    class After(Middleware):
        def after_process_message(self, broker: Any, message: Any, **outcome: Any) -> None:
            ran.append("hook")

    @dramatiq.actor(broker=broker, max_retries=0)
    def act() -> None:
        ran.append("act")
        raise RuntimeError("no")

    start_worker(broker)
    act.send()
    wait_until(lambda: list(broker.dead_letters("default")))
    place = next(at for at, one in enumerate(broker.middleware) if isinstance(one, Retries))
    if added_anew:
        broker.middleware[place] = After()
    else:
        del broker.middleware[place]
    act.send()
    wait_until(lambda: ran.count("act") == 2)
    if added_anew:
        wait_until(lambda: ran[-1] == "hook")
    wait_until(lambda: broker.backlog("default") == 1)
    assert len(list(broker.dead_letters("default"))) == 1


def test_a_new_middleware_list_is_seen(make_broker: MakeBroker, client: redis.Redis) -> None:
    broker = make_broker()
    seen: list[str] = []

    class Enqueued(Middleware):
        def after_enqueue(self, broker: Any, message: Any, delay: int | None) -> None:
            seen.append(message.message_id)

    @dramatiq.actor(broker=broker)
    def act() -> None: ...

    act.send()
    broker.middleware = [*broker.middleware[:-1], Enqueued()]
    message = act.send()
    assert seen == [message.message_id]


def test_a_raising_hook_fails_neither_message_nor_worker(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    class Broken(Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            raise RuntimeError("before")

        def after_process_message(self, broker: Any, message: Any, **outcome: Any) -> None:
            raise RuntimeError("after")

        def before_ack(self, broker: Any, message: Any) -> None:
            raise RuntimeError("before ack")

        def after_ack(self, broker: Any, message: Any) -> None:
            raise RuntimeError("after ack")

    broker.add_middleware(Broken())
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(number)

    start_worker(broker)
    act.send(1)
    act.send(2)
    broker.join("default", timeout=5_000)
    assert sorted(ran) == [1, 2]
