"""Contract: what follows a message (pipelines, groups, callbacks) is neither lost nor doubled."""

from __future__ import annotations

import threading
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq import group, pipeline
from dramatiq.middleware import GroupCallbacks, Middleware, MiddlewareError
from dramatiq.rate_limits.backends import RedisBackend
from tests.integration.contract.kit import MakeBroker, StartWorker
from tests.support import CuttingProxy, wait_until

from streamatiq import RedisStreamsBroker


class Refusal(Middleware):
    """Refuses to enqueue, `times` times, messages of one actor."""

    def __init__(self, actor_name: str, times: int = 1) -> None:
        self.actor_name = actor_name
        self.times = times

    def before_enqueue(self, broker: dramatiq.Broker, message: Any, delay: int | None) -> None:
        if message.actor_name == self.actor_name and self.times > 0:
            self.times -= 1
            raise MiddlewareError("refused")


def test_a_pipeline_passes_results_on(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    results: list[int] = []

    @dramatiq.actor(broker=broker)
    def add(x: int, y: int) -> int:
        return x + y

    @dramatiq.actor(broker=broker, queue_name="other")
    def keep(x: int) -> None:
        results.append(x)

    start_worker(broker)
    pipeline([add.message(1, 2), add.message(3), keep.message()], broker=broker).run()
    wait_until(lambda: results == [6])
    for queue in ("default", "other"):
        broker.join(queue, timeout=5_000)


def test_a_pipeline_may_ignore_results_and_be_delayed(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    results: list[str] = []

    @dramatiq.actor(broker=broker)
    def first() -> str:
        return "ignored"

    @dramatiq.actor(broker=broker)
    def keep(x: str) -> None:
        results.append(x)

    start_worker(broker)
    last = keep.message_with_options(args=("x",), pipe_ignore=True, delay=50)
    pipeline([first.message(), last], broker=broker).run(delay=50)
    broker.join("default", timeout=5_000)
    assert results == ["x"]


def test_a_pipelines_next_message_is_committed_with_the_end_of_the_first(
    make_broker: MakeBroker,
    proxy: CuttingProxy,
    start_worker: StartWorker,
) -> None:
    broker = make_broker(proxy.url)
    results: list[str] = []

    @dramatiq.actor(broker=broker)
    def first() -> str:
        # The next request that names it is the settle.
        proxy.cut_reply(b"the very result", times=2)
        return "the very result"

    @dramatiq.actor(broker=broker)
    def keep(x: str) -> None:
        results.append(x)

    start_worker(broker)
    pipeline([first.message(), keep.message()], broker=broker).run()
    broker.join("default", timeout=10_000)
    assert proxy.cuts == 2
    assert results == ["the very result"]


def test_a_pipeline_whose_next_enqueue_fails_loses_nothing(
    broker: RedisStreamsBroker, start_worker: StartWorker, quick_second_chance: object
) -> None:
    broker.add_middleware(Refusal("keep"))
    ran: list[str] = []

    @dramatiq.actor(broker=broker)
    def first() -> str:
        ran.append("first")
        return "x"

    @dramatiq.actor(broker=broker)
    def keep(x: str) -> None:
        ran.append(f"keep {x}")

    start_worker(broker)
    pipeline([first.message(), keep.message()], broker=broker).run()
    broker.join("default", timeout=10_000)
    assert ran == ["first", "first", "keep x"]


def test_a_result_that_cannot_be_passed_on_keeps_the_message_pending(
    broker: RedisStreamsBroker, start_worker: StartWorker, quick_second_chance: object
) -> None:
    ran: list[str] = []

    @dramatiq.actor(broker=broker)
    def first() -> Any:
        ran.append("first")
        return object() if len(ran) == 1 else "x"

    @dramatiq.actor(broker=broker)
    def keep(x: str) -> None:
        ran.append(f"keep {x}")

    start_worker(broker)
    pipeline([first.message(), keep.message()], broker=broker).run()
    broker.join("default", timeout=10_000)
    assert ran == ["first", "first", "keep x"]


def test_what_else_followed_a_failed_enqueue_is_not_doubled(
    broker: RedisStreamsBroker, start_worker: StartWorker, quick_second_chance: object
) -> None:
    """The delivery has not ended, so nothing of it is committed until it runs again."""
    broker.add_middleware(Refusal("keep"))
    ran: list[str] = []

    @dramatiq.actor(broker=broker)
    def succeeded(message: dict[str, Any], result: str) -> None:
        ran.append("succeeded")

    @dramatiq.actor(broker=broker, on_success="succeeded")
    def first() -> str:
        ran.append("first")
        return "x"

    @dramatiq.actor(broker=broker)
    def keep(x: str) -> None:
        ran.append("keep")

    start_worker(broker, threads=1)
    pipeline([first.message(), keep.message()], broker=broker).run()
    broker.join("default", timeout=10_000)
    assert sorted(ran) == ["first", "first", "keep", "succeeded"]


def test_a_retried_step_of_a_pipeline_goes_on_once(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[str] = []

    @dramatiq.actor(broker=broker, min_backoff=0, max_backoff=0)
    def first() -> str:
        ran.append("first")
        if len(ran) == 1:
            raise RuntimeError("again")
        return "x"

    @dramatiq.actor(broker=broker)
    def keep(x: str) -> None:
        ran.append(f"keep {x}")

    start_worker(broker)
    pipeline([first.message(), keep.message()], broker=broker).run()
    broker.join("default", timeout=5_000)
    assert ran == ["first", "first", "keep x"]


def test_a_group_runs_all_of_its_messages(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(number)

    start_worker(broker)
    group((act.message(number) for number in range(20)), broker=broker).run()
    broker.join("default", timeout=5_000)
    assert sorted(ran) == list(range(20))


@pytest.fixture
def limits(broker: RedisStreamsBroker, client: redis.Redis) -> None:
    """`broker` with group callbacks."""
    broker.add_middleware(GroupCallbacks(RedisBackend(client=client)))


@pytest.mark.usefixtures("limits")
def test_a_groups_callback_runs_once_after_all(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[str] = []

    @dramatiq.actor(broker=broker, min_backoff=0, max_backoff=0)
    def act(number: int) -> None:
        if number == 0 and "failed" not in ran:
            ran.append("failed")
            raise RuntimeError("again")
        ran.append(f"act {number}")

    @dramatiq.actor(broker=broker)
    def finished() -> None:
        ran.append("finished")

    start_worker(broker)
    work = group((act.message(number) for number in range(5)), broker=broker)
    work.add_completion_callback(finished.message())
    work.run()
    broker.join("default", timeout=5_000)
    assert sorted(ran[:-1]) == [*(f"act {number}" for number in range(5)), "failed"]
    assert ran[-1] == "finished"


@pytest.mark.usefixtures("limits")
def test_a_group_callback_whose_enqueue_fails_is_not_lost(
    broker: RedisStreamsBroker, start_worker: StartWorker, quick_second_chance: object
) -> None:
    broker.add_middleware(Refusal("finished"))
    ran: list[str] = []

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        ran.append(f"act {number}")

    @dramatiq.actor(broker=broker)
    def finished() -> None:
        ran.append("finished")

    start_worker(broker)
    work = group([act.message(0), act.message(1)], broker=broker)
    work.add_completion_callback(finished.message())
    work.run()
    broker.join("default", timeout=5_000)
    # The last one ran twice, since its end was not committed the first time.
    assert sorted(set(ran)) == ["act 0", "act 1", "finished"]
    assert ran.count("finished") == 1


def test_on_success_gets_message_and_result(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    told: list[Any] = []

    @dramatiq.actor(broker=broker, queue_name="callbacks")
    def succeeded(message: dict[str, Any], result: int) -> None:
        told.append((message["message_id"], message["args"], result))

    @dramatiq.actor(broker=broker)
    def double(x: int) -> int:
        return 2 * x

    start_worker(broker)
    message = double.send_with_options(args=(4,), on_success=succeeded)
    wait_until(lambda: told)
    assert told == [(message.message_id, [4], 8)]
    broker.join("callbacks", timeout=5_000)


def test_on_failure_gets_message_and_error_of_each_attempt(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    told: list[Any] = []

    @dramatiq.actor(broker=broker)
    def failed(message: dict[str, Any], error: dict[str, str]) -> None:
        told.append((message["message_id"], error))

    @dramatiq.actor(broker=broker, max_retries=1, min_backoff=0, max_backoff=0, on_failure="failed")
    def act() -> None:
        raise RuntimeError("no")

    start_worker(broker)
    message = act.send()
    broker.join("default", timeout=5_000)
    assert told == [(message.message_id, {"type": "RuntimeError", "message": "no"})] * 2
    assert len(list(broker.dead_letters("default"))) == 1


def test_a_callback_whose_enqueue_fails_is_not_lost(
    broker: RedisStreamsBroker, start_worker: StartWorker, quick_second_chance: object
) -> None:
    broker.add_middleware(Refusal("succeeded"))
    ran: list[str] = []

    @dramatiq.actor(broker=broker)
    def succeeded(message: dict[str, Any], result: None) -> None:
        ran.append("succeeded")

    @dramatiq.actor(broker=broker, on_success="succeeded")
    def act() -> None:
        ran.append("act")

    start_worker(broker)
    act.send()
    broker.join("default", timeout=5_000)
    assert ran == ["act", "act", "succeeded"]


def test_what_a_handler_sends_is_stored_when_send_returns(
    broker: RedisStreamsBroker, start_worker: StartWorker, gate: threading.Event
) -> None:
    ran: list[str] = []

    @dramatiq.actor(broker=broker)
    def sent() -> None:
        ran.append("sent")

    @dramatiq.actor(broker=broker)
    def act() -> None:
        sent.send()
        gate.wait(20)
        ran.append("act")

    start_worker(broker, threads=2)
    act.send()
    wait_until(lambda: ran == ["sent"])
    gate.set()
    broker.join("default", timeout=5_000)
    assert ran == ["sent", "act"]
