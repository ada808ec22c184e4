"""Contract, "Consumer": handing out."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.errors import QueueNotFound
from tests.integration.contract.kit import MakeBroker, StartWorker, add_raw
from tests.support import CuttingProxy, wait_until

from streamatiq import RedisStreamsBroker

#: What the worker passes, ms.
TIMEOUT_MS = 1_000


def test_next_returns_a_proxy_of_the_message(broker: RedisStreamsBroker) -> None:
    @dramatiq.actor(broker=broker)
    def act(number: int) -> None: ...

    message = act.send(1)
    delivery = next(broker.consume("default", prefetch=2, timeout=TIMEOUT_MS))
    assert isinstance(delivery, dramatiq.MessageProxy)
    assert delivery.asdict() == message.asdict()


def test_next_returns_none_within_about_the_timeout(broker: RedisStreamsBroker) -> None:
    broker.declare_queue("default")
    consumer = broker.consume("default", prefetch=2, timeout=200)
    for _ in range(2):  # the first one starts the reading
        before = time.monotonic()
        assert next(consumer) is None
        assert 0.19 <= time.monotonic() - before < 1.5


def test_next_blocks_at_the_prefetch_limit_until_an_ack_frees_a_slot(
    broker: RedisStreamsBroker,
) -> None:
    @dramatiq.actor(broker=broker)
    def act(number: int) -> None: ...

    for number in range(3):
        act.send(number)
    consumer = broker.consume("default", prefetch=2, timeout=300)
    first, second = next(consumer), next(consumer)
    assert first is not None
    assert second is not None
    before = time.monotonic()
    assert next(consumer) is None
    assert time.monotonic() - before >= 0.29  # blocked: did not spin
    patient = broker.consume("default", prefetch=2, timeout=10_000)
    freeing = threading.Timer(0.1, consumer.ack, [first])
    freeing.start()
    before = time.monotonic()
    third = next(patient)
    assert time.monotonic() - before < 5
    assert third is not None
    assert third.args == (2,)
    freeing.join()


def test_consuming_a_queue_that_was_never_declared_is_an_error(
    broker: RedisStreamsBroker,
) -> None:
    with pytest.raises(QueueNotFound):
        broker.consume("unheard_of")


def test_prefetch_one_fetches_only_when_the_last_message_is_done(
    make_broker: MakeBroker, start_worker: StartWorker, gate: threading.Event
) -> None:
    ran: list[tuple[str, int]] = []

    def declare(name: str) -> tuple[RedisStreamsBroker, dramatiq.Actor[[int], None]]:
        broker = make_broker()

        @dramatiq.actor(broker=broker)
        def act(number: int) -> None:
            ran.append((name, number))
            if name == "slow":
                gate.wait(20)

        return broker, act

    slow, act = declare("slow")
    start_worker(slow, threads=2, prefetch=1)
    act.send(0)
    wait_until(lambda: ran == [("slow", 0)])
    for number in range(1, 6):
        act.send(number)
    quick, _ = declare("quick")
    start_worker(quick, threads=1, prefetch=1)
    # Nothing is stuck behind the running one.
    wait_until(lambda: ran[1:] == [("quick", number) for number in range(1, 6)])
    gate.set()
    slow.join("default", timeout=5_000)
    assert len(ran) == 6


def test_prefetch_one_gives_one_consumer_one_entry(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    @dramatiq.actor(broker=broker)
    def act(number: int) -> None: ...

    for number in range(5):
        act.send(number)
    consumer = broker.consume("default", prefetch=1, timeout=300)
    for number in range(5):
        delivery = next(consumer)
        assert delivery is not None
        assert delivery.args == (number,)
        pending: Any = client.xpending(delivery.source.keys.entries, "default")
        assert pending["pending"] == 1
        assert next(broker.consume("default", prefetch=1, timeout=50)) is None
        consumer.ack(delivery)
        wait_until(lambda left=4 - number: broker.backlog("default") == left)


def test_an_unknown_actors_message_is_dead_lettered_and_its_neighbours_run(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(number)

    act.send(1)
    unknown = broker.enqueue(act.message(0).copy(actor_name="unheard_of"))
    act.send(2)
    start_worker(broker, threads=1)
    broker.join("default", timeout=5_000)
    assert ran == [1, 2]
    (letter,) = broker.dead_letters("default")
    assert letter.data == unknown.encode()
    assert (letter.cause, letter.error) == ("failed", "ActorNotFound: unheard_of")


def _message(**changed: object) -> bytes:
    fields: dict[str, object] = {
        "queue_name": "default",
        "actor_name": "act",
        "args": [0],
        "kwargs": {},
        "options": {},
        "message_id": "x",
        "message_timestamp": 1,
    }
    for name, value in changed.items():
        if value is ...:
            del fields[name]
        else:
            fields[name] = value
    return dramatiq.JSONEncoder().encode(fields)


BAD_MESSAGES = {
    "bytes": b"\x00\xff\xfe not JSON",
    "empty": b"",
    "cut": _message()[:-10],
    "null": b"null",
    "a list": b"[]",
    "a number": b"17",
    "no args": _message(args=...),
    "no actor": _message(actor_name=...),
    "no id": _message(message_id=...),
    "null args": _message(args=None),
    "null kwargs": _message(kwargs=None),
    "null options": _message(options=None),
    "text args": _message(args="abc"),
    "list kwargs": _message(kwargs=[]),
    "list options": _message(options=[]),
    "list actor": _message(actor_name=[]),
    "list id": _message(message_id=[]),
}


@pytest.mark.parametrize("bad", BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_an_undecodable_entry_is_dead_lettered_byte_for_byte_and_its_neighbours_run(
    broker: RedisStreamsBroker, client: redis.Redis, start_worker: StartWorker, bad: bytes
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(number)

    act.send(1)
    add_raw(client, broker, bad, bad)
    act.send(2)
    start_worker(broker, threads=1)
    broker.join("default", timeout=2_500)
    assert ran == [1, 2]
    letters = list(broker.dead_letters("default"))
    assert [(one.data, one.cause) for one in letters] == [(bad, "undecodable")] * 2
    assert letters[0].error


def test_an_undecodable_entry_gives_none_and_frees_its_slot(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    @dramatiq.actor(broker=broker)
    def act(number: int) -> None: ...

    add_raw(client, broker, b"bad")
    act.send(1)
    consumer = broker.consume("default", prefetch=1, timeout=TIMEOUT_MS)
    assert next(consumer) is None
    delivery = next(consumer)
    assert delivery is not None
    assert delivery.args == (1,)


def test_an_entry_of_a_foreign_program_is_dead_lettered_with_its_content(
    broker: RedisStreamsBroker, client: redis.Redis, start_worker: StartWorker
) -> None:
    @dramatiq.actor(broker=broker)
    def act() -> None: ...

    add_raw(client, broker, b"the payload", field="body")
    start_worker(broker)
    broker.join("default", timeout=2_500)
    (letter,) = broker.dead_letters("default")
    assert letter.cause == "undecodable"
    assert b"the payload" in letter.data


@pytest.mark.parametrize("eta", [None, 0, 4_000_000_000_000, "soon"])
def test_an_eta_in_the_options_is_stripped_before_hand_out(
    broker: RedisStreamsBroker, start_worker: StartWorker, eta: object
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act() -> None:
        ran.append(1)

    worker = start_worker(broker)
    act.send_with_options(eta=eta)
    broker.join("default", timeout=5_000)
    assert ran == [1]
    assert worker.consumers["default"].delay_queue.empty()


def test_a_message_that_names_another_queue_does_not_kill_its_thread(
    broker: RedisStreamsBroker, client: redis.Redis, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker, min_backoff=0, max_backoff=0)
    def act(number: int) -> None:
        ran.append(number)
        if ran == [0]:
            raise RuntimeError("again")

    worker = start_worker(broker, threads=1)
    add_raw(client, broker, act.message(0).copy(queue_name="elsewhere").encode())
    broker.join("default", timeout=5_000)
    act.send(1)
    broker.join("default", timeout=5_000)
    assert ran == [0, 0, 1]
    assert worker.workers[0].is_alive()


def test_entries_whose_delivery_was_lost_on_the_way_are_found(
    make_broker: MakeBroker,
    proxy: CuttingProxy,
    start_worker: StartWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are pending with this consumer, which never got them."""
    monkeypatch.setattr("streamatiq.broker.reader.COMPARE_S", 0.05)
    monkeypatch.setattr("streamatiq.broker.reader.BLOCK_MS", 100)
    receiving = make_broker(proxy.url)
    sending = make_broker()
    sending.declare_queue("default")
    ran: list[int] = []

    @dramatiq.actor(broker=receiving)
    def act(number: int) -> None:
        ran.append(number)

    start_worker(receiving)
    # The replies to which the payload belongs, whichever command reads it.
    for number in range(5):
        proxy.cut_reply(b"XREADGROUP")
        sending.enqueue(act.message(number))
        wait_until(lambda cut=number + 1: proxy.cuts >= cut)
    sending.join("default", timeout=15_000)
    assert sorted(ran) == [0, 1, 2, 3, 4]


def test_a_consumers_name_holds_the_process_that_reads(
    broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    @dramatiq.actor(broker=broker)
    def act() -> None: ...

    act.send()
    delivery = next(broker.consume("default", prefetch=1, timeout=TIMEOUT_MS))
    assert delivery is not None
    infos: Any = client.xinfo_consumers(delivery.source.keys.entries, "default")
    (name,) = [info["name"].decode() for info in infos if info["pending"]]
    assert name.split(":")[1] == str(os.getpid())


def test_what_is_claimed_after_the_stop_has_begun_is_handed_back(
    make_broker: MakeBroker, start_worker: StartWorker
) -> None:
    """By a consumer thread that was only starting then."""
    broker, other = make_broker(), make_broker()
    ran: dict[RedisStreamsBroker, list[int]] = {broker: [], other: []}
    for one, numbers in ran.items():
        dramatiq.actor(numbers.append, broker=one, actor_name="act")

    class LateConsumer(dramatiq.Middleware):
        def before_worker_shutdown(self, broker: Any, worker: dramatiq.Worker) -> None:
            for number in range(3):
                broker.get_actor("act").send(number)
            assert next(broker.consume("default", prefetch=4, timeout=5_000)) is not None

    broker.add_middleware(LateConsumer())
    worker = start_worker(broker)
    broker.get_actor("act").send(-1)
    wait_until(lambda: ran[broker] == [-1])  # its own consumer has started
    worker.stop()
    start_worker(other, threads=1)
    # The first one is in the late consumer's hands; Dramatiq hands back what those hold.
    wait_until(lambda: ran[other] == [1, 2], what=lambda: f"{ran}")


def test_stopping_one_worker_leaves_the_others_of_its_process_reading(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[str] = []
    for name in ("first", "second"):

        @dramatiq.actor(broker=broker, queue_name=name, actor_name=name)
        def act(what: str) -> None:
            ran.append(what)

    stopped = start_worker(broker, queues={"first"})
    start_worker(broker, queues={"second"})
    broker.get_actor("first").send("first")
    wait_until(lambda: ran == ["first"])
    stopped.stop()
    broker.get_actor("second").send("second")
    broker.join("second", timeout=5_000)
    assert ran == ["first", "second"]
