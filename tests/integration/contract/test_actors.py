"""Contract: actors and their options."""

from __future__ import annotations

from typing import Any

import dramatiq
import pytest
from tests.integration.contract.kit import StartWorker
from tests.support import wait_until

from streamatiq import RedisStreamsBroker


def test_an_actor_is_called_at_once_and_sent_to_a_worker(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    runs: list[tuple[int, str]] = []

    @dramatiq.actor(broker=broker)
    def add(number: int, *, word: str = "") -> int:
        runs.append((number, word))
        return number + 1

    assert add(1, word="called") == 2
    message = add.send(2, word="sent")
    assert (message.queue_name, message.actor_name) == ("default", "add")
    assert (message.args, message.kwargs) == ((2,), {"word": "sent"})
    start_worker(broker)
    broker.join("default", timeout=10_000)
    assert runs == [(1, "called"), (2, "sent")]


def test_an_option_that_no_middleware_knows_is_refused(broker: RedisStreamsBroker) -> None:
    with pytest.raises(ValueError, match="invalid_option"):

        @dramatiq.actor(broker=broker, invalid_option=1)
        def never() -> None: ...


def test_options_that_middleware_knows_are_accepted(broker: RedisStreamsBroker) -> None:
    options: dict[str, Any] = {
        "max_retries": 3,
        "min_backoff": 10,
        "max_backoff": 20,
        "retry_when": lambda retries, error: False,
        "throws": (ValueError,),
        "time_limit": 1_000,
        "max_age": 60_000,
        "notify_shutdown": True,
        "on_success": "other",
        "on_failure": "other",
        "on_retry_exhausted": "other",
        "pipe_ignore": True,
    }
    for name in ("time_limit", "max_age"):
        assert name in broker.actor_options

    @dramatiq.actor(broker=broker, actor_name="named", queue_name="own", priority=5, **options)
    def named() -> None: ...

    assert (named.actor_name, named.queue_name, named.priority) == ("named", "own", 5)
    assert named.options == options
    assert broker.get_actor("named") is named
    assert "own" in broker.get_declared_queues()


def test_a_name_can_be_declared_once(broker: RedisStreamsBroker) -> None:
    @dramatiq.actor(broker=broker, actor_name="once")
    def first() -> None: ...

    with pytest.raises(ValueError, match="already registered"):

        @dramatiq.actor(broker=broker, actor_name="once")
        def second() -> None: ...


def test_options_of_a_message_reach_its_handler(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    seen: list[dict[str, Any]] = []

    class Look(dramatiq.Middleware):
        def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
            seen.append(dict(message.options))

    broker.add_middleware(Look())

    @dramatiq.actor(broker=broker)
    def plain() -> None: ...

    plain.send_with_options(max_retries=7, mine={"a": [1, 2]})
    start_worker(broker)
    wait_until(lambda: seen)
    assert seen == [{"max_retries": 7, "mine": {"a": [1, 2]}}]


def test_generic_actors(broker: RedisStreamsBroker, start_worker: StartWorker) -> None:
    runs: list[str] = []
    its_broker = broker

    class Task(dramatiq.GenericActor):
        class Meta:
            abstract = True
            broker = its_broker
            queue_name = "generic"

        def perform(self, text: str) -> None:
            runs.append(f"{type(self).__name__} {text}")

    class Rename(Task): ...

    start_worker(broker)
    Rename.send("a")
    broker.join("generic", timeout=10_000)
    assert runs == ["Rename a"]
