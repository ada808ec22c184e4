"""Faults that a review found."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator

import dramatiq
import pytest
import redis
from tests.support import wait_until

from streamatiq import Lane, RedisStreamsBroker, Settings
from streamatiq.broker import DeadLetterFilter, scripts
from streamatiq.broker.in_flight import Held, InFlight
from streamatiq.settings import RedisSettings
from streamatiq.testing import TestBroker, Twin

#: As a JSON text: half of a surrogate pair. Dramatiq takes it, and UTF-8 has no form of it.
HALF = b"\\ud800"

MakeBroker = Callable[[], RedisStreamsBroker]
Start = Callable[..., dramatiq.Worker]


@pytest.fixture
def make_broker(redis_url: str, namespace: str) -> Iterator[MakeBroker]:
    made: list[RedisStreamsBroker] = []

    def make() -> RedisStreamsBroker:
        settings = Settings(redis=RedisSettings(max_retries=0, retry_delay=0.05))
        made.append(RedisStreamsBroker(redis_url, namespace=namespace, settings=settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def broker(make_broker: MakeBroker) -> RedisStreamsBroker:
    return make_broker()


@pytest.fixture
def start(make_broker: MakeBroker) -> Iterator[Start]:
    started: list[dramatiq.Worker] = []

    def start_one(broker: RedisStreamsBroker, threads: int = 1) -> dramatiq.Worker:
        worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=threads)
        started.append(worker)
        worker.start()
        return worker

    yield start_one
    for worker in started:
        if any(thread.is_alive() for thread in worker.workers):
            worker.stop(timeout=10_000)


def _recording(broker: RedisStreamsBroker) -> tuple[dramatiq.Actor[[int], None], list[int]]:
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(number)

    return act, ran


def _reading(client: redis.Redis, broker: RedisStreamsBroker) -> bool:
    """Whether a blocking read of this broker's process is under way."""
    process = broker._process
    if process is None or "default" not in process._all():
        return False
    mine = process._all()["default"]._client_id
    return any(
        int(one["id"]) == mine and one["cmd"].startswith("xreadgroup")
        for one in client.client_list()
    )


def test_the_second_worker_of_a_queue_goes_on(broker: RedisStreamsBroker, start: Start) -> None:
    act, ran = _recording(broker)
    first = start(broker)
    start(broker)
    act.send(1)
    wait_until(lambda: ran == [1], timeout_s=5)
    first.stop(timeout=5_000)
    act.send(2)
    wait_until(lambda: ran == [1, 2], timeout_s=3)


def test_what_a_paused_worker_takes_is_given_back(
    make_broker: MakeBroker, client: redis.Redis, start: Start
) -> None:
    pausing, other = make_broker(), make_broker()
    act, ran = _recording(pausing)
    _, ran_by_other = _recording(other)
    worker = start(pausing, threads=4)
    act.send(1)
    wait_until(lambda: ran == [1] and _reading(client, pausing), timeout_s=5)
    pausing_now = threading.Thread(target=worker.pause)
    pausing_now.start()
    process = pausing._process
    assert process is not None
    # Its consumer asks once more. When all threads have paused, its reader may know already.
    wait_until(lambda: worker.consumers["default"].paused)
    paused_s, intake = time.monotonic(), process._all()["default"]
    wait_until(lambda: intake.view().buffer.last_asked > paused_s)
    act.send(2)  # its blocking read takes it
    wait_until(lambda: len(process.in_flight) == 1, timeout_s=2)
    start(other)
    wait_until(lambda: ran_by_other == [2], timeout_s=5)
    pausing_now.join()


def test_an_odd_message_id_does_not_stop_a_queue_with_cancellations(
    broker: RedisStreamsBroker, client: redis.Redis, start: Start
) -> None:
    act, ran = _recording(broker)
    odd = act.message(1)
    client.xadd(
        broker.keys.queue("default").entries(Lane.NORMAL),
        {"m": odd.encode().replace(odd.message_id.encode(), HALF), "a": b"1"},
    )
    broker.enqueue_many([act.message(number) for number in range(2, 10)])
    broker.cancel("default", "another")
    start(broker, threads=8)
    wait_until(lambda: set(range(2, 10)) <= set(ran), timeout_s=4)


def test_a_dead_letter_with_an_odd_message_id_is_requeued(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    act, _ = _recording(broker)
    message = act.message(1)
    for message_id in (message.message_id.encode(), HALF):
        data = message.encode().replace(message.message_id.encode(), message_id)
        client.xadd(
            broker.keys.queue("default").dead,
            {"source": "queue:default:normal", "entry": "1-0", "data": data, "cause": "failed"},
        )
    told = broker.requeue_dead_letters("default", DeadLetterFilter(causes=["failed"]))
    assert told == {"requeued": 2}


def test_what_was_handed_back_and_claimed_again_is_held(
    broker: RedisStreamsBroker,
    client: redis.Redis,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs: list[int] = []
    go_on, claimed_again = threading.Event(), threading.Event()

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        runs.append(number)
        claimed_again.set()
        go_on.wait(10)

    start(broker, threads=2)
    wait_until(lambda: _reading(client, broker), timeout_s=5)
    process = broker._process
    assert process is not None
    removed: list[Held] = []
    remove = InFlight.remove

    def late(self: InFlight, held: Collection[Held]) -> None:
        if held and not removed:  # the committer is slow after its first batch
            claimed_again.wait(5)
        remove(self, held)
        removed.extend(held)

    monkeypatch.setattr(InFlight, "remove", late)
    with client.pipeline(transaction=True) as lost:  # a read whose reply is lost
        key = broker.keys.queue("default").entries(Lane.NORMAL)
        lost.xadd(key, {"m": act.message(1).encode(), "a": b"1"})
        lost.xreadgroup("default", process.identity.consumer, {key: ">"}, count=1)
        lost.execute()
    try:
        client.client_kill_filter(_id=str(process._all()["default"]._client_id))
        wait_until(lambda: removed and runs == [1], timeout_s=8)
        assert len(process.in_flight) == 1
    finally:
        go_on.set()


def test_an_overdue_message_stays_cancelled(
    broker: RedisStreamsBroker, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamatiq.broker.work_queues.CANCELLED_MS", 1)
    act, ran = _recording(broker)
    cancelled = act.send_with_options(args=(1,), delay=50)
    broker.cancel("default", cancelled.message_id)
    over = broker.server_time().timestamp() + 0.1
    wait_until(lambda: broker.server_time().timestamp() > over, timeout_s=2)
    broker.cancel("default", "another")  # forgets what is old
    start(broker)
    broker.join("default", timeout=5_000)
    assert ran == []


def test_an_empty_lane_does_not_age(broker: RedisStreamsBroker, client: redis.Redis) -> None:
    act, _ = _recording(broker)
    queue = broker._work_queue("default")
    sources = [source.keys for source in queue.sources]
    for source in sources:
        client.xgroup_create(source.entries, "default", "0", mkstream=True)
    high = [act.message_with_options(args=(n,), priority="high") for n in range(50)]
    broker.enqueue_many(high)

    def fetch() -> list[int]:
        call = scripts.fetch(
            sources, queue.delayed, group="default", consumer="c", room=8, lanes=True,
            passed_on_ms=0,
        )  # fmt: skip
        return [block.source for block in broker._links.call(lambda link: link.run(call)).blocks]

    assert fetch() == [0]
    for source in sources[1:]:
        long_ago = int(broker.server_time().timestamp() * 1000) - 4_000
        assert client.set(source.passed, long_ago, xx=True)
    assert fetch() == [0]  # finds the lower lanes empty
    act.send_with_options(args=(99,), priority="low")
    assert fetch() == [0]


@pytest.mark.soak
def test_a_server_clock_that_is_set_forward_kills_nobody() -> None:
    runs: list[int] = []
    go_on = threading.Event()
    with Twin() as twin:
        brokers = [TestBroker(twin=twin) for _ in range(3)]
        workers: list[dramatiq.Worker] = []
        for number, broker in enumerate(brokers):
            if number == 0:
                broker.declare_queue("other")  # it begins first, and looks for dead ones
            else:

                @dramatiq.actor(broker=broker)
                def act(number: int) -> None:
                    runs.append(number)
                    go_on.wait(30)

            workers.append(dramatiq.Worker(broker, worker_threads=1, worker_timeout=50))
            workers[-1].start()
            time.sleep(0.5)
        try:
            brokers[1].get_actor("act").send(1)
            wait_until(lambda: runs == [1], timeout_s=5)
            time.sleep(9.8)  # in touch for as long as it takes to be believed
            twin.advance(20)
            time.sleep(5)
            assert runs == [1]
        finally:
            go_on.set()
            for worker in workers:
                worker.stop(timeout=5_000)
            for broker in brokers:
                broker.close()
