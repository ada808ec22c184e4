"""Contract: retries by Dramatiq's Retries middleware, in each of its forms."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.errors import Retry
from dramatiq.middleware import CurrentMessage, Retries
from tests.integration.contract.kit import MakeBroker, StartWorker, plain_middleware
from tests.support import wait_until

from streamatiq import RedisStreamsBroker


def test_a_retry_with_zero_backoff_runs_at_once(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    started: list[float] = []

    @dramatiq.actor(broker=broker, min_backoff=0, max_backoff=0)
    def act() -> None:
        started.append(time.monotonic())
        if len(started) <= 10:
            raise RuntimeError("again")

    start_worker(broker)
    act.send()
    wait_until(lambda: len(started) == 11)
    assert started[-1] - started[0] < 2.0  # in all; a poll or a default back-off would take longer
    broker.join("default", timeout=5_000)


def test_raising_retry_with_zero_delay_runs_at_once(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    started: list[float] = []

    @dramatiq.actor(broker=broker)
    def act() -> None:
        started.append(time.monotonic())
        if len(started) == 1:
            raise Retry("again", delay=0)

    start_worker(broker)
    act.send()
    wait_until(lambda: len(started) == 2)
    assert started[1] - started[0] < 1.0


def test_backoff_by_min_and_max_backoff_is_met(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    started: list[float] = []

    @dramatiq.actor(broker=broker, min_backoff=100, max_backoff=200)
    def act() -> None:
        started.append(time.monotonic())
        if len(started) <= 2:
            raise RuntimeError("again")

    start_worker(broker)
    act.send()
    wait_until(lambda: len(started) == 3)
    for before, after in pairwise(started):
        assert 0.099 <= after - before < 1.2


def test_backoff_by_raising_retry_is_met(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    started: list[float] = []

    @dramatiq.actor(broker=broker, min_backoff=60_000)
    def act() -> None:
        started.append(time.monotonic())
        if len(started) == 1:
            raise Retry("again", delay=150)

    start_worker(broker)
    act.send()
    wait_until(lambda: len(started) == 2)
    assert 0.149 <= started[1] - started[0] < 1.2


def test_backoff_of_a_message_overrides_the_actors(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker, min_backoff=60_000)
    def act() -> None:
        ran.append(1)
        if len(ran) == 1:
            raise RuntimeError("again")

    start_worker(broker)
    act.send_with_options(min_backoff=0, max_backoff=0)
    wait_until(lambda: len(ran) == 2)


def test_a_retry_waits_on_the_server_and_frees_its_slot(
    broker: RedisStreamsBroker, client: redis.Redis, start_worker: StartWorker
) -> None:
    ran: list[str] = []

    @dramatiq.actor(broker=broker, min_backoff=60_000)
    def act(name: str) -> None:
        ran.append(name)
        if name == "bad":
            raise RuntimeError("again")

    start_worker(broker, threads=1, prefetch=1)
    act.send("bad")
    act.send("good")
    wait_until(lambda: ran == ["bad", "good"])
    keys = broker.keys.queue("default")
    wait_until(lambda: client.zcard(keys.delayed) == 1)
    wait_until(lambda: broker.backlog("default") == 1)


def test_a_retry_keeps_the_message_and_records_its_attempts(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    broker.add_middleware(CurrentMessage())
    seen: list[Any] = []

    @dramatiq.actor(broker=broker, min_backoff=0, max_backoff=0)
    def act(number: int, *, name: str) -> None:
        message = CurrentMessage.get_current_message()
        assert message is not None
        seen.append((message.message_id, message.message_timestamp, dict(message.options)))
        assert (number, name) == (7, "x")
        if len(seen) <= 2:
            raise RuntimeError("fails on purpose")

    start_worker(broker)
    message = act.send_with_options(args=(7,), kwargs={"name": "x"}, colour="red")
    wait_until(lambda: len(seen) == 3)
    assert [(one[0], one[1]) for one in seen] == [
        (message.message_id, message.message_timestamp)
    ] * 3
    assert seen[0][2] == {"colour": "red"}
    assert [one[2].get("retries", 0) for one in seen] == [0, 1, 2]
    assert seen[2][2]["colour"] == "red"
    assert "fails on purpose" in seen[2][2]["traceback"]


def test_retry_when_decides_instead_of_max_retries(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    asked: list[tuple[int, str]] = []

    def retry_when(retries: int, error: BaseException) -> bool:
        asked.append((retries, str(error)))
        return retries < 2

    @dramatiq.actor(
        broker=broker, min_backoff=0, max_backoff=0, max_retries=0, retry_when=retry_when
    )
    def act() -> None:
        raise RuntimeError("no")

    start_worker(broker)
    act.send()
    letters = wait_until(lambda: list(broker.dead_letters("default")))
    assert asked == [(0, "no"), (1, "no"), (2, "no")]
    assert letters[0].attempts == 3


def test_a_raising_retry_when_keeps_the_message_pending_and_it_runs_again(
    broker: RedisStreamsBroker, start_worker: StartWorker, quick_second_chance: object
) -> None:
    ran: list[int] = []

    def retry_when(retries: int, error: BaseException) -> bool:
        raise ZeroDivisionError

    @dramatiq.actor(broker=broker, retry_when=retry_when)
    def act() -> None:
        ran.append(1)
        if len(ran) == 1:
            raise RuntimeError("no")

    start_worker(broker)
    act.send()
    wait_until(lambda: len(ran) == 2)
    broker.join("default", timeout=5_000)
    assert list(broker.dead_letters("default")) == []


def test_throws_ends_in_the_dead_letters_without_a_retry(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker, throws=(ValueError,), min_backoff=0)
    def act() -> None:
        ran.append(1)
        raise ValueError("not wanted")

    start_worker(broker)
    message = act.send()
    letters = wait_until(lambda: list(broker.dead_letters("default")))
    assert [one.data for one in letters] == [message.encode()]
    assert (letters[0].cause, letters[0].error) == ("failed", "ValueError: not wanted")
    assert "in act" in letters[0].traceback
    broker.join("default", timeout=5_000)
    assert ran == [1]


def test_out_of_retries_ends_in_the_dead_letters(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker, max_retries=2, min_backoff=0, max_backoff=0)
    def act() -> None:
        ran.append(1)
        raise RuntimeError("never works")

    start_worker(broker)
    message = act.send()
    (letter,) = wait_until(lambda: list(broker.dead_letters("default")))
    assert len(ran) == 3
    assert dramatiq.Message.decode(letter.data).message_id == message.message_id
    assert (letter.cause, letter.error, letter.attempts) == (
        "failed",
        "RuntimeError: never works",
        3,
    )
    assert letter.source == "queue:default:normal"
    broker.join("default", timeout=5_000)


@pytest.mark.parametrize("max_retries", [0, 1])
def test_max_retries_of_a_message_overrides_the_actors(
    broker: RedisStreamsBroker, start_worker: StartWorker, max_retries: int
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker, max_retries=9, min_backoff=0, max_backoff=0)
    def act() -> None:
        ran.append(1)
        raise RuntimeError("no")

    start_worker(broker)
    act.send_with_options(max_retries=max_retries)
    wait_until(lambda: list(broker.dead_letters("default")))
    assert len(ran) == 1 + max_retries


def test_max_retries_of_the_middleware_holds_where_nothing_else_is_said(
    make_broker: MakeBroker, start_worker: StartWorker
) -> None:
    broker = make_broker(
        middleware=[*plain_middleware(Retries), Retries(max_retries=1, min_backoff=1)]
    )
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act() -> None:
        ran.append(1)
        raise RuntimeError("no")

    start_worker(broker)
    act.send()
    wait_until(lambda: list(broker.dead_letters("default")))
    assert len(ran) == 2


def test_on_retry_exhausted_is_sent_with_the_end_of_the_message(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    told: list[Any] = []

    @dramatiq.actor(broker=broker)
    def last_words(message: dict[str, Any], retries: dict[str, int]) -> None:
        told.append((message["message_id"], message["args"], retries))

    @dramatiq.actor(
        broker=broker, max_retries=1, min_backoff=0, max_backoff=0, on_retry_exhausted="last_words"
    )
    def act(number: int) -> None:
        raise RuntimeError("no")

    start_worker(broker)
    message = act.send(7)
    wait_until(lambda: told)
    broker.join("default", timeout=5_000)
    assert told == [(message.message_id, [7], {"retries": 1, "max_retries": 1})]
    assert len(list(broker.dead_letters("default"))) == 1


def test_a_handler_that_enqueues_its_own_message_is_no_retry(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    broker.add_middleware(CurrentMessage())
    seen: list[int] = []

    @dramatiq.actor(broker=broker)
    def act() -> None:
        message = CurrentMessage.get_current_message()
        assert message is not None
        seen.append(message.options.get("retries", 0))
        if len(seen) < 3:
            broker.enqueue(message, delay=20 * len(seen))

    start_worker(broker)
    act.send()
    wait_until(lambda: len(seen) == 3)
    broker.join("default", timeout=5_000)
    assert seen == [0, 0, 0]
    assert list(broker.dead_letters("default")) == []


def test_a_handler_that_enqueues_its_own_message_and_raises_gets_both(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    broker.add_middleware(CurrentMessage())
    seen: list[int] = []

    @dramatiq.actor(broker=broker, min_backoff=0, max_backoff=0)
    def act() -> None:
        message = CurrentMessage.get_current_message()
        assert message is not None
        seen.append(message.options.get("retries", 0))
        if len(seen) == 1:
            broker.enqueue(message)
            raise RuntimeError("again")

    start_worker(broker)
    act.send()
    wait_until(lambda: len(seen) == 3)
    broker.join("default", timeout=5_000)
    assert sorted(seen) == [0, 0, 1]
