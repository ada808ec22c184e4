"""A work queue holds so many ready and running messages and no more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.middleware import Middleware, default_middleware
from tests.integration.contract.kit import MakeBroker, StartWorker
from tests.support import CuttingProxy, wait_until

from streamatiq import Lane, RedisStreamsBroker, Settings
from streamatiq.broker.backpressure import Backpressure
from streamatiq.broker.calls import script
from streamatiq.errors import BacklogFull

REDIS: dict[str, Any] = {"max_retries": 8, "retry_delay": 0.02}


def limited(limit: int, **bus: Any) -> Settings:
    return Settings(redis=REDIS, event_bus={"max_queue_size": limit, **bus})


def blocking(limit: int, timeout_s: float = 10.0) -> Settings:
    return limited(limit, when_full="block", block_timeout=timeout_s)


def declare(broker: RedisStreamsBroker, **options: Any) -> Any:
    @dramatiq.actor(broker=broker, actor_name="act", **options)
    def act(number: int) -> None:
        pass

    return act


def numbers(client: redis.Redis, broker: RedisStreamsBroker, lane: Lane = Lane.NORMAL) -> list[int]:
    """What stands in a lane, in order."""
    entries: Any = client.xrange(broker.keys.queue("default").entries(lane))
    return [dramatiq.Message.decode(fields[b"m"]).args[0] for _, fields in entries]


def test_a_full_queue_refuses_with_figures(make_broker: MakeBroker) -> None:
    broker = make_broker(settings=limited(3))
    act = declare(broker)
    for number in range(3):
        act.send(number)
    with pytest.raises(BacklogFull) as caught:
        act.send(3)
    full = caught.value
    assert (full.queue, full.backlog, full.limit, full.accepted) == ("default", 3, 3, 0)
    assert (full.log, full.part, full.subscription, full.waited_s) == (None, None, None, 0)
    assert [message.args for message in full.left] == [(3,)]
    assert full.code == "backlog_full"
    assert str(full) == (
        "Work queue 'default' is full: 3 messages are ready or running, and "
        "event_bus.max_queue_size is 3. The message is not stored. Start more workers, enqueue it "
        "later, or let senders wait (event_bus.when_full: block)."
    )
    assert broker.backlog("default") == 3


def test_the_lanes_share_the_limit(make_broker: MakeBroker) -> None:
    broker = make_broker(settings=limited(3))
    act = declare(broker)
    for lane in Lane:
        act.send_with_options(args=(1,), priority=lane.value)
    for lane in Lane:
        with pytest.raises(BacklogFull):
            act.send_with_options(args=(2,), priority=lane.value)


def test_no_limit_where_it_is_0(make_broker: MakeBroker) -> None:
    broker = make_broker(settings=limited(0, when_full="block"))
    act = declare(broker)
    broker.enqueue_many([act.message(number) for number in range(1_100)])
    assert broker.backlog("default") == 1_100


def test_two_producers_never_exceed_the_limit(make_broker: MakeBroker, client: redis.Redis) -> None:
    limit = 100
    refused: list[int] = []
    stored: list[int] = []

    def produce(broker: RedisStreamsBroker, first: int) -> None:
        act = declare(broker)
        for number in range(first, first + 120, 4):
            try:
                broker.enqueue_many([act.message(n) for n in range(number, number + 4)])
                stored.extend(range(number, number + 4))
            except BacklogFull as full:
                stored.extend(range(number, number + full.accepted))
                refused.extend(message.args[0] for message in full.left)

    brokers = [make_broker(settings=limited(limit)) for _ in range(2)]
    threads = [
        threading.Thread(target=produce, args=(broker, n * 1000))
        for n, broker in enumerate(brokers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored) == limit == brokers[0].backlog("default")
    assert len(stored) + len(refused) == 240
    assert sorted(numbers(client, brokers[0])) == sorted(stored)


class _Hooks(Middleware):
    """What was announced as enqueued."""

    def __init__(self) -> None:
        self.after: list[int] = []

    def after_enqueue(self, broker: Any, message: Any, delay: Any) -> None:
        self.after.append(message.args[0])


def test_as_many_as_fit_are_accepted_in_order(make_broker: MakeBroker, client: redis.Redis) -> None:
    hooks = _Hooks()
    middleware = [*(make() for make in default_middleware), hooks]
    broker = make_broker(settings=limited(800), middleware=middleware)
    act = declare(broker)
    other = dramatiq.actor(lambda number: None, broker=broker, actor_name="o", queue_name="other")
    first = [other.message(-1), *(act.message(n) for n in range(900))]
    with pytest.raises(BacklogFull) as caught:
        broker.enqueue_many([*first, other.message(-2), *(act.message(n) for n in range(900, 950))])
    full = caught.value
    # The other queue comes first, and has room.
    assert (full.queue, full.accepted, full.backlog) == ("default", 802, 800)
    assert [message.args[0] for message in full.left] == list(range(800, 950))
    assert numbers(client, broker) == list(range(800))
    assert hooks.after == [-1, *range(800), -2]
    assert "800 of the 950 messages" in str(full)
    assert broker.backlog("other") == 2


def test_delayed_messages_are_neither_counted_nor_refused(
    make_broker: MakeBroker, start_worker: StartWorker
) -> None:
    broker = make_broker(settings=limited(2))
    runs: list[int] = []
    act = dramatiq.actor(runs.append, broker=broker, actor_name="act")
    act.send_with_options(args=(1,), delay=60_000)
    act.send_with_options(args=(2,), delay=60_000)
    act.send(3)
    act.send(4)
    with pytest.raises(BacklogFull):
        act.send(5)
    # Promoted into a full queue, too.
    broker.enqueue_many([act.message(n) for n in range(6, 10)], delay=50)
    assert broker.backlog("default") == 8
    start_worker(broker)
    wait_until(lambda: len(runs) == 6)
    assert sorted(runs) == [3, 4, 6, 7, 8, 9]


def test_retries_and_what_follows_are_never_refused(
    make_broker: MakeBroker, start_worker: StartWorker, gate: threading.Event
) -> None:
    broker = make_broker(settings=limited(2))
    runs: list[int] = []
    told: list[Any] = []

    @dramatiq.actor(broker=broker)
    def tell(message: Any, result: Any) -> None:
        told.append(message["args"][0])

    @dramatiq.actor(broker=broker, min_backoff=0, max_backoff=0, on_success="tell")
    def once(number: int) -> None:
        gate.wait(10)
        runs.append(number)
        if runs.count(number) == 1:
            raise RuntimeError("once")

    once.send(1)
    once.send(2)
    start_worker(broker)
    with pytest.raises(BacklogFull):  # what runs counts
        once.send(3)
    gate.set()
    wait_until(lambda: len(told) == 2)
    broker.join("default", timeout=10_000)
    assert sorted(runs) == [1, 1, 2, 2]
    assert list(broker.dead_letters("default")) == []


@pytest.mark.parametrize("keep_bytes", [0, 2])
def test_a_lost_reply_of_a_partly_accepted_call_counts_the_same_and_stores_nothing_twice(
    make_broker: MakeBroker, proxy: CuttingProxy, client: redis.Redis, keep_bytes: int
) -> None:
    broker = make_broker(proxy.url, settings=limited(5))
    act = declare(broker)
    act.send(0)
    proxy.cut_reply(script("enqueue").sha.encode(), times=3, keep_bytes=keep_bytes)
    with pytest.raises(BacklogFull) as caught:
        broker.enqueue_many([act.message(n) for n in range(1, 10)])
    assert proxy.cuts == 3
    assert (caught.value.accepted, caught.value.backlog) == (4, 5)
    assert numbers(client, broker) == [0, 1, 2, 3, 4]
    # Wholly refused, and its reply lost.
    proxy.cut_reply(script("enqueue").sha.encode(), keep_bytes=keep_bytes)
    with pytest.raises(BacklogFull):
        act.send(10)
    assert numbers(client, broker) == [0, 1, 2, 3, 4]


def test_a_call_that_comes_after_a_later_one_is_known(
    make_broker: MakeBroker, client: redis.Redis
) -> None:
    broker = make_broker(settings=limited(5))
    act = declare(broker)
    keys = broker.keys.queue("default")
    lanes = [keys.entries(lane) for lane in (Lane.HIGH, Lane.NORMAL, Lane.LOW)]

    def call(sequence: int) -> Any:
        all_keys = [*lanes, keys.delayed, keys.delayed_messages, keys.wake]
        all_keys += [keys.producer("aa"), keys.cancelled]
        args = [sequence, 5, 2, -1, "member", act.message(sequence).encode()]
        return client.eval(script("enqueue").text, len(all_keys), *all_keys, *args)  # type: ignore[arg-type]

    assert call(9) == 1
    assert call(10) == 1
    assert call(10) == 1
    assert call(9) == -1
    assert call(10) == 1
    assert numbers(client, broker) == [9, 10]


def test_block_waits_until_a_worker_makes_room_and_keeps_the_order(
    make_broker: MakeBroker, start_worker: StartWorker, gate: threading.Event
) -> None:
    broker = make_broker(settings=blocking(5))
    runs: list[int] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        gate.wait(10)
        runs.append(number)

    sent = threading.Event()

    def send() -> None:
        broker.enqueue_many([act.message(n) for n in range(40)])
        act.send(40)
        sent.set()

    sender = threading.Thread(target=send)
    sender.start()
    wait_until(lambda: broker.backlog("default") == 5)
    assert not sent.is_set()
    start_worker(broker, threads=1)
    gate.set()
    sender.join(10)
    assert sent.is_set()
    broker.join("default", timeout=10_000)
    assert runs == list(range(41))


class _Clock:
    """Time passes only while somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pauses: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.now_s += seconds
        return False


@pytest.fixture
def clock() -> Iterator[_Clock]:
    return _Clock()


def test_block_gives_up_at_its_deadline(make_broker: MakeBroker, clock: _Clock) -> None:
    broker = make_broker()
    act = declare(broker)
    broker._pressure = Backpressure(1, block_s=5.0, clock_s=lambda: clock.now_s, wait=clock.wait)
    act.send(0)
    with pytest.raises(BacklogFull, match=r"Waited 5\.0 s.*enqueue it later\.$") as caught:
        act.send(1)
    assert caught.value.waited_s == pytest.approx(5.0)
    assert sum(clock.pauses) == pytest.approx(5.0)
    # It doubles from 10 to 100 ms, with jitter; the last one is what is left.
    for pause_s, base_s in zip(clock.pauses, [0.01, 0.02, 0.04, 0.08, *[0.1] * 40], strict=False):
        assert base_s / 2 <= pause_s <= base_s
    assert 50 <= len(clock.pauses) <= 110
    assert broker.backlog("default") == 1


def test_a_thread_with_an_event_loop_is_not_made_to_wait(make_broker: MakeBroker) -> None:
    broker = make_broker(settings=blocking(1))
    act = declare(broker)
    act.send(0)

    async def send() -> None:
        act.send(1)

    with pytest.raises(BacklogFull, match="not waited for room, because an event loop runs"):
        asyncio.run(send())


def test_a_handler_that_waits_for_its_own_queue_is_retried(
    make_broker: MakeBroker, start_worker: StartWorker
) -> None:
    """The only thread waits for what only it could do. The retry is not refused, and makes room."""
    broker = make_broker(settings=blocking(2, timeout_s=0.1))
    runs: list[int] = []

    @dramatiq.actor(broker=broker, min_backoff=400, max_backoff=400)
    def act(number: int) -> None:
        if number < 10:
            act.send(number + 10)
        runs.append(number)

    act.send(1)
    act.send(2)
    start_worker(broker, threads=1)
    wait_until(lambda: len(runs) == 4)
    assert runs == [2, 12, 1, 11]
    broker.join("default", timeout=10_000)
    assert list(broker.dead_letters("default")) == []
