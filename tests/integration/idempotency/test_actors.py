"""Plain actors with business keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dramatiq
import pytest
import redis
from tests.integration.logs.harness import Bench
from tests.support import wait_until

from streamatiq import Idempotency, Lane, fencing_token
from streamatiq.broker import DeadLetterFilter

FAST = {"min_backoff": 10, "max_backoff": 20}


@pytest.fixture
def bench(open_bench: Callable[..., Bench]) -> Bench:
    return open_bench(middleware=[Idempotency()])


def _stands(bench: Bench, client: redis.Redis) -> dict[bytes, bytes]:
    found: Any = client.hgetall(bench.keys.queue("default").lane(Lane.NORMAL).keys)
    return dict(found)


def test_of_the_messages_of_one_key_one_runs(bench: Bench, client: redis.Redis) -> None:
    runs: list[tuple[str, int]] = []

    @dramatiq.actor(broker=bench.broker, idempotency_key=lambda order, size=1: order)
    def place(order: str, size: int = 1) -> None:
        runs.append((order, size))

    bench.start(threads=4)
    for priority in ("high", "low", "normal"):
        place.send_with_options(args=("a",), kwargs={"size": 2}, priority=priority)
    place.send("b")
    bench.settled("default")
    assert sorted(runs) == [("a", 2), ("b", 1)]
    assert _stands(bench, client) == {b"place:a": b"d", b"place:b": b"d"}
    left = client.pttl(bench.keys.queue("default").lane(Lane.NORMAL).keys)
    assert 300_000 < left <= 600_000


def test_actors_of_one_queue_have_keys_of_their_own(bench: Bench) -> None:
    runs: list[str] = []

    @dramatiq.actor(broker=bench.broker, idempotency_key=str)
    def one(order: str) -> None:
        runs.append(f"one {order}")

    @dramatiq.actor(broker=bench.broker, idempotency_key=str)
    def two(order: str) -> None:
        runs.append(f"two {order}")

    bench.start()
    one.send("a")
    two.send("a")
    bench.settled("default")
    assert sorted(runs) == ["one a", "two a"]


def test_a_retry_is_another_entry_and_runs(bench: Bench, client: redis.Redis) -> None:
    runs: list[str] = []

    @dramatiq.actor(broker=bench.broker, idempotency_key=str, on_uncertain="dead_letter", **FAST)
    def flaky(order: str) -> None:
        runs.append(order)
        if len(runs) < 3:
            raise RuntimeError(order)

    bench.start()
    flaky.send("a")
    bench.settled("default")
    assert runs == ["a", "a", "a"]
    assert _stands(bench, client) == {b"flaky:a": b"d"}


def _left_by_the_dead(bench: Bench, client: redis.Redis, name: str) -> None:
    """What a run of an entry that is no more has left."""
    client.hset(bench.keys.queue("default").lane(Lane.NORMAL).keys, f"{name}:a",
                "r 1-1.normal feedbeef")  # fmt: skip


def test_an_uncertain_message_is_dead_lettered_and_runs_when_requeued(
    bench: Bench, client: redis.Redis
) -> None:
    runs: list[str] = []

    @dramatiq.actor(broker=bench.broker, idempotency_key=str, on_uncertain="dead_letter", **FAST)
    def unsure(order: str) -> None:
        runs.append(order)

    _left_by_the_dead(bench, client, "unsure")
    bench.start()
    message = unsure.send("a")
    bench.settled("default")
    (letter,) = bench.broker.dead_letters("default")
    assert (runs, letter.cause) == ([], "uncertain")
    assert _stands(bench, client) == {b"unsure:a": b"u " + message.message_id.encode()}
    bench.broker.requeue_dead_letters("default", DeadLetterFilter(causes=["uncertain"]))
    bench.settled("default")
    assert runs == ["a"]
    assert _stands(bench, client) == {b"unsure:a": b"d"}


@pytest.mark.parametrize(("answers", "ran"), [([False], ["a"]), ([True], []),
                                              ([OSError(), True], [])])  # fmt: skip
def test_an_actor_s_question_gets_its_arguments(
    bench: Bench, client: redis.Redis, answers: list[Any], ran: list[str]
) -> None:
    runs: list[str] = []
    asked: list[tuple[Any, ...]] = []

    def ask(order: str, *, size: int) -> bool:
        asked.append((order, size))
        answer = answers[len(asked) - 1]
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    @dramatiq.actor(broker=bench.broker, idempotency_key=lambda order, size: order,
                    on_uncertain=ask, **FAST)  # fmt: skip
    def asks(order: str, size: int) -> None:
        runs.append(order)

    _left_by_the_dead(bench, client, "asks")
    bench.start()
    asks.send("a", size=3)
    bench.settled("default")
    assert runs == ran
    assert asked == [("a", 3)] * len(answers)
    assert _stands(bench, client) == {b"asks:a": b"d"}


def test_a_handler_that_calls_another_actor_s_function_just_calls_it(bench: Bench) -> None:
    runs: list[str] = []

    @dramatiq.actor(broker=bench.broker, idempotency_key=str)
    def inner(order: str) -> None:
        runs.append(f"inner {order}")

    @dramatiq.actor(broker=bench.broker, idempotency_key=lambda order: 7, max_retries=0)
    def outer(order: str) -> None:
        inner.fn(order)

    @dramatiq.actor(broker=bench.broker, idempotency_key=str)
    def good(order: str) -> None:
        inner(order)

    bench.start()
    outer.send("a")
    good.send("b")
    bench.settled("default")
    assert runs == ["inner b"]
    assert len(list(bench.broker.dead_letters("default"))) == 1


def test_an_actor_without_options_is_left_alone(bench: Bench, client: redis.Redis) -> None:
    runs: list[int] = []

    @dramatiq.actor(broker=bench.broker)
    def plain(number: int) -> None:
        runs.append(fencing_token())

    bench.start(threads=1)
    plain.send(1)
    plain.send(1)
    wait_until(lambda: len(runs) == 2)
    assert runs == [1, 2]
    assert _stands(bench, client) == {}
