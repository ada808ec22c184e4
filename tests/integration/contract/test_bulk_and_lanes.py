"""Many messages in one call; and lanes, which decide what runs first, whoever sent it when."""

from __future__ import annotations

import threading
from typing import Any

import dramatiq
import pytest
import redis
from tests.integration.contract.kit import MakeBroker, StartWorker
from tests.support import CuttingProxy, wait_until

from streamatiq import RedisStreamsBroker, Settings
from streamatiq.errors import HandlerDefinitionError, InvalidLane
from streamatiq.events import Lane
from streamatiq.settings import RedisSettings


def test_many_messages_keep_their_order_and_their_hooks(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[int] = []
    told: list[tuple[str, str]] = []

    class Hooks(dramatiq.Middleware):
        def before_enqueue(self, broker: Any, message: Any, delay: int | None) -> None:
            told.append(("before", message.message_id))

        def after_enqueue(self, broker: Any, message: Any, delay: int | None) -> None:
            told.append(("after", message.message_id))

    broker.add_middleware(Hooks())

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(number)

    messages = [act.message(number) for number in range(1_300)]  # more than one call takes
    assert broker.enqueue_many(messages) == messages
    ids = [message.message_id for message in messages]
    assert told == [("before", one) for one in ids] + [("after", one) for one in ids]
    assert broker.backlog("default") == 1_300
    start_worker(broker, threads=1)
    broker.join("default", timeout=10_000)
    assert ran == list(range(1_300))


def test_many_messages_may_be_delayed_and_go_to_several_queues(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    for name in ("first", "second"):
        broker.declare_queue(name)
    messages: list[dramatiq.Message[Any]] = [
        dramatiq.Message(f"{name}", "act", (number,), {}, {})
        for number in range(3)
        for name in ("first", "second")
    ]
    broker.enqueue_many(messages, delay=60_000)
    for name in ("first", "second"):
        keys = broker.keys.queue(name)
        assert client.zcard(keys.delayed) == client.hlen(keys.delayed_messages) == 3
    assert broker.enqueue_many([]) == []


def test_many_messages_are_stored_once_when_the_reply_is_lost(
    make_broker: MakeBroker, proxy: CuttingProxy
) -> None:
    retrying = Settings(redis=RedisSettings(max_retries=3, retry_delay=0.01))
    broker = make_broker(proxy.url, settings=retrying)

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None: ...

    act.send(-1)  # the script is known
    proxy.cut_reply(b"EVALSHA", times=2)
    broker.enqueue_many([act.message(number) for number in range(600)])
    assert proxy.cuts == 2
    assert broker.backlog("default") == 601


def test_many_messages_are_not_for_subscriptions(broker: RedisStreamsBroker) -> None:
    from streamatiq import Event, on

    class Bulk(Event, type="test.bulk"):
        pass

    on(Bulk, name="bulk_handler", broker=broker)(lambda event: None)
    message: dramatiq.Message[Any] = dramatiq.Message("bulk_handler", "bulk_handler", (), {}, {})
    with pytest.raises(HandlerDefinitionError, match="takes no messages"):
        broker.enqueue_many([message])


def test_a_high_message_waits_only_for_what_runs(
    make_broker: MakeBroker, start_worker: StartWorker, gate: threading.Event
) -> None:
    """Over two processes' worth of workers, with a long queue of low messages before it."""
    ran: list[str] = []
    actors = []
    for _ in range(2):
        broker = make_broker()

        @dramatiq.actor(broker=broker)
        def act(name: str) -> None:
            ran.append(name)
            gate.wait(20)

        actors.append(act)
        start_worker(broker, threads=1)
    act = actors[0]
    lows = [act.message_with_options(args=("low",), priority="low") for _ in range(300)]
    actors[0].broker.enqueue_many(lows)  # type: ignore[attr-defined]
    wait_until(lambda: len(ran) == 2)
    act.send_with_options(args=("high",), priority="high")
    gate.set()
    wait_until(lambda: "high" in ran)
    # Two were running; each of the two threads may have begun one more before it was seen.
    assert ran.index("high") <= 4


@pytest.mark.parametrize("lane", list(Lane))
def test_a_message_stays_in_its_lane_when_it_is_delayed_and_retried(
    broker: RedisStreamsBroker, client: redis.Redis, start_worker: StartWorker, lane: Lane
) -> None:
    lanes: list[str] = []

    @dramatiq.actor(broker=broker, min_backoff=1, max_backoff=2, max_retries=2)
    def act() -> None:
        current = broker_delivery()
        lanes.append(current.source.name)
        if len(lanes) < 3:
            raise RuntimeError("again")

    act.send_with_options(delay=20, priority=lane.value)
    start_worker(broker, threads=1)
    broker.join("default", timeout=10_000)
    assert lanes == [f"queue:default:{lane.value}"] * 3


def broker_delivery() -> Any:
    from streamatiq.broker import current_delivery

    return current_delivery.get()


def test_a_priority_that_is_no_lane_is_refused(broker: RedisStreamsBroker) -> None:
    @dramatiq.actor(broker=broker)
    def act() -> None: ...

    with pytest.raises(InvalidLane, match=r"priority is 'urgent'; use one of high, normal, low"):
        act.send_with_options(priority="urgent")
    assert broker.backlog("default") == 0
