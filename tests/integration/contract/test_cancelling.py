"""A message that was cancelled does not run, wherever it waited: queued, delayed or for a retry."""

from __future__ import annotations

import threading

import dramatiq
import pytest
import redis
from tests.integration.contract.kit import MakeBroker, StartWorker
from tests.support import CuttingProxy, wait_until

from streamatiq import Event, Lane, RedisStreamsBroker, on
from streamatiq.errors import HandlerDefinitionError


def _recording_actor(
    broker: RedisStreamsBroker, **options: object
) -> tuple[dramatiq.Actor[[str], None], list[str]]:
    ran: list[str] = []

    @dramatiq.actor(broker=broker, **options)
    def act(name: str) -> None:
        ran.append(name)

    return act, ran


@pytest.mark.parametrize("lane", ["high", "normal", "low"])
def test_a_queued_message_is_cancelled(
    broker: RedisStreamsBroker, start_worker: StartWorker, lane: str
) -> None:
    act, ran = _recording_actor(broker)
    messages = [
        act.message_with_options(args=(name,), priority=lane) for name in ("a", "b", "c", "d")
    ]
    broker.enqueue_many(messages)
    broker.cancel("default", messages[1].message_id, messages[3])
    start_worker(broker, threads=1)
    broker.join("default", timeout=10_000)
    assert ran == ["a", "c"]
    assert broker.backlog("default") == 0
    assert not list(broker.dead_letters("default"))


def test_a_delayed_message_is_cancelled(
    broker: RedisStreamsBroker, client: redis.Redis, start_worker: StartWorker
) -> None:
    act, ran = _recording_actor(broker)
    cancelled = act.send_with_options(args=("cancelled",), delay=100)
    act.send_with_options(args=("kept",), delay=150)
    broker.cancel("default", cancelled.message_id)
    start_worker(broker, threads=1)
    broker.join("default", timeout=10_000)
    assert ran == ["kept"]
    keys = broker.keys.queue("default")
    assert client.exists(keys.delayed, keys.delayed_messages) == 0


@pytest.mark.parametrize("backoff_ms", [0, 60_000])
def test_a_message_that_runs_is_not_retried(
    make_broker: MakeBroker,
    start_worker: StartWorker,
    caplog: pytest.LogCaptureFixture,
    backoff_ms: int,
) -> None:
    broker, other = make_broker(), make_broker()
    runs: list[int] = []
    begun, go_on = threading.Event(), threading.Event()
    for one in (broker, other):  # the retry would wake the other one, which has not fetched since

        @dramatiq.actor(broker=one, min_backoff=backoff_ms, max_backoff=backoff_ms)
        def act() -> None:
            runs.append(1)
            begun.set()
            go_on.wait(10)
            raise RuntimeError("again")

        start_worker(one, threads=1)
    message = broker.get_actor("act").send()
    assert begun.wait(10)
    with caplog.at_level("INFO"):
        other.cancel("default", message.message_id)
        go_on.set()
        broker.join("default", timeout=10_000)
    assert runs == [1]
    assert "was cancelled; it was not enqueued" in caplog.text


def test_a_message_that_waits_for_its_retry_is_cancelled(
    broker: RedisStreamsBroker, client: redis.Redis, start_worker: StartWorker
) -> None:
    runs: list[int] = []

    @dramatiq.actor(broker=broker, min_backoff=300, max_backoff=300)
    def act() -> None:
        runs.append(1)
        raise RuntimeError("again")

    message = act.send()
    start_worker(broker, threads=1)
    wait_until(lambda: client.zcard(broker.keys.queue("default").delayed) == 1)
    broker.cancel("default", message.message_id)
    broker.join("default", timeout=10_000)
    assert runs == [1]


def test_what_arrives_at_an_idle_worker_is_looked_at_too(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    """Cancelled before it is enqueued: a pipeline's next message, for example, by its id."""
    act, ran = _recording_actor(broker)
    start_worker(broker, threads=1)
    act.send("first")
    wait_until(lambda: ran == ["first"])
    message = act.message("cancelled")
    broker.cancel("default", message.message_id)
    # As a settle adds it: enqueuing it by hand would lift the cancellation.
    keys = broker.keys.queue("default")
    with broker.client() as client:
        client.xadd(keys.entries(Lane.NORMAL), {"m": message.encode()})
    act.send("last")
    wait_until(lambda: "last" in ran)
    broker.join("default", timeout=10_000)
    assert ran == ["first", "last"]


def test_cancelling_is_harmless_to_repeat_and_forgets_old_ids(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    key = broker.keys.queue("default").cancelled
    broker.declare_queue("default")
    broker.cancel("default", "a")
    broker.cancel("default", "a", "b")
    for wrong in ((), (7,), (["c"],)):
        with pytest.raises(ValueError, match=r'cancel\("default", message_id, ...\) needs ids'):
            broker.cancel("default", *wrong)  # type: ignore[arg-type]
    assert set(client.zrange(key, 0, -1)) == {b"a", b"b"}
    client.zadd(key, {"a": 1})  # long over
    broker.cancel("default", "c")
    assert set(client.zrange(key, 0, -1)) == {b"b", b"c"}


def test_an_old_id_is_kept_while_its_message_may_still_be_queued(
    broker: RedisStreamsBroker, client: redis.Redis, start_worker: StartWorker
) -> None:
    act, ran = _recording_actor(broker)
    message = act.message("cancelled")
    keys = broker.keys.queue("default")
    day_ms = 86_400_000
    # Enqueued twenty days ago, and cancelled right after: no worker has come since.
    long_ago = int(client.time()[0]) * 1000 - 20 * day_ms
    client.xadd(keys.entries(Lane.NORMAL), {"m": message.encode()}, id=f"{long_ago}-0")
    client.zadd(keys.cancelled, {message.message_id: long_ago + 8 * day_ms + 1})
    broker.cancel("default", "another")
    start_worker(broker, threads=1)
    broker.join("default", timeout=10_000)
    assert ran == []


def test_an_id_is_kept_until_the_last_delayed_message_is_due(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    act, _ = _recording_actor(broker)
    month_ms = 30 * 86_400_000
    message = act.send_with_options(args=("x",), delay=month_ms)
    broker.cancel("default", message.message_id)
    now_ms = int(client.time()[0]) * 1000
    score = client.zscore(broker.keys.queue("default").cancelled, message.message_id)
    assert score is not None
    assert score > now_ms + month_ms + 7 * 86_400_000


def test_a_message_that_cannot_be_decoded_is_still_dead_lettered(
    broker: RedisStreamsBroker, client: redis.Redis, start_worker: StartWorker
) -> None:
    act, ran = _recording_actor(broker)
    broker.cancel("default", "some")
    for junk in (b"junk", b"[1]", b"{}"):
        client.xadd(broker.keys.queue("default").entries(Lane.NORMAL), {"m": junk})
    act.send("good")
    start_worker(broker, threads=1)
    broker.join("default", timeout=10_000)
    assert ran == ["good"]
    assert [letter.data for letter in broker.dead_letters("default")] == [b"junk", b"[1]", b"{}"]


def test_a_claim_whose_look_up_fails_is_found_again(
    make_broker: MakeBroker, proxy: CuttingProxy, start_worker: StartWorker
) -> None:
    broker = make_broker(proxy.url)
    act, ran = _recording_actor(broker)
    act.send("kept")
    cancelled = act.send("cancelled")
    broker.cancel("default", cancelled.message_id)
    proxy.cut_reply(b"ZMSCORE")
    start_worker(broker, threads=1)
    broker.join("default", timeout=20_000)
    assert proxy.cuts == 1
    assert ran == ["kept"]


def test_enqueuing_it_again_lifts_the_cancellation(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    act, ran = _recording_actor(broker)
    message = act.message("again")
    broker.cancel("default", message.message_id, "other")
    broker.enqueue(message)
    start_worker(broker, threads=1)
    broker.join("default", timeout=10_000)
    assert ran == ["again"]


def test_events_cannot_be_cancelled(broker: RedisStreamsBroker) -> None:
    class Fact(Event, type="test.fact"):
        pass

    on(Fact, name="facts", broker=broker)(lambda event: None)
    with pytest.raises(HandlerDefinitionError, match="takes no messages"):
        broker.cancel("facts", "id")
