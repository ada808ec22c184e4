"""Contract: Dramatiq's other middleware, and what a middleware may do to a message."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import dramatiq
import pytest
from dramatiq.middleware import (
    AsyncIO,
    CurrentMessage,
    Interrupt,
    Middleware,
    SkipMessage,
    raise_thread_exception,
)
from tests.integration.contract.kit import StartWorker
from tests.support import wait_until

from streamatiq import RedisStreamsBroker


class Veto(Middleware):
    """Keeps a message from its actor."""

    def __init__(self, *, fail: bool) -> None:
        self.fail = fail

    def before_process_message(self, broker: Any, message: dramatiq.MessageProxy) -> None:
        if self.fail:
            message.fail()
        raise SkipMessage("vetoed")


@pytest.mark.parametrize("fail", [False, True])
def test_skip_message_acks_and_a_failed_one_is_dead_lettered(
    broker: RedisStreamsBroker, start_worker: StartWorker, fail: bool
) -> None:
    broker.add_middleware(Veto(fail=fail))
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act() -> None:
        ran.append(1)

    start_worker(broker)
    message = act.send()
    broker.join("default", timeout=5_000)
    assert ran == []
    letters = [(one.data, one.cause, one.error) for one in broker.dead_letters("default")]
    assert letters == ([(message.encode(), "skipped", "SkipMessage: vetoed")] if fail else [])


def test_a_message_failed_by_middleware_is_dead_lettered_and_not_run(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    class Fail(Middleware):
        def before_process_message(self, broker: Any, message: dramatiq.MessageProxy) -> None:
            message.fail()

    broker.add_middleware(Fail())
    ran: list[int] = []

    @dramatiq.actor(broker=broker)
    def act() -> None:
        ran.append(1)

    start_worker(broker)
    message = act.send()
    broker.join("default", timeout=5_000)
    assert ran == []
    assert [one.data for one in broker.dead_letters("default")] == [message.encode()]


class Aborted(Interrupt):
    """Raised in the thread of a message that shall stop."""


class Abort(Middleware):
    """As dramatiq-abort does: interrupts the thread that runs a message."""

    def __init__(self) -> None:
        self.threads: dict[str, int] = {}

    def before_process_message(self, broker: Any, message: dramatiq.MessageProxy) -> None:
        self.threads[message.message_id] = threading.get_ident()

    def after_process_message(self, broker: Any, message: Any, **outcome: Any) -> None:
        self.threads.pop(message.message_id, None)

    def abort(self, message_id: str) -> None:
        raise_thread_exception(self.threads[message_id], Aborted)


def test_a_running_message_can_be_aborted(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    abort = Abort()
    broker.add_middleware(abort)
    ran: list[str] = []

    @dramatiq.actor(broker=broker, throws=(Aborted,))
    def endless() -> None:
        ran.append("endless")
        while True:  # an interrupt is seen between two steps of the interpreter
            time.sleep(0.005)

    @dramatiq.actor(broker=broker)
    def act() -> None:
        ran.append("act")

    start_worker(broker, threads=1)
    message = endless.send()
    wait_until(lambda: ran)
    abort.abort(message.message_id)
    act.send()
    broker.join("default", timeout=10_000)
    assert ran == ["endless", "act"]
    (letter,) = broker.dead_letters("default")
    assert (letter.data, letter.cause) == (message.encode(), "failed")
    assert letter.error.startswith("Aborted")


def test_age_limit_dead_letters_what_is_too_old(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    ran: list[str] = []

    @dramatiq.actor(broker=broker, max_age=60_000)
    def act(name: str) -> None:
        ran.append(name)

    young = act.message("young")
    old = act.message("old").copy(message_timestamp=young.message_timestamp - 120_000)
    broker.enqueue(old)
    broker.enqueue(young)
    start_worker(broker)
    broker.join("default", timeout=5_000)
    assert ran == ["young"]
    (letter,) = broker.dead_letters("default")
    assert (letter.data, letter.cause) == (old.encode(), "skipped")
    assert letter.error == "SkipMessage: Message age limit exceeded"


def test_async_actors_run_on_the_event_loop(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    broker.add_middleware(AsyncIO())
    ran: list[str] = []
    threads: set[int] = set()

    @dramatiq.actor(broker=broker)
    async def child(name: str) -> None:
        await asyncio.sleep(0)
        threads.add(threading.get_ident())
        ran.append(f"child {name}")

    @dramatiq.actor(broker=broker, min_backoff=0, max_backoff=0)
    async def act(name: str) -> None:
        threads.add(threading.get_ident())
        await asyncio.sleep(0.01)
        ran.append(name)
        if ran.count(name) == 1:
            raise RuntimeError("again")
        child.send(name)

    worker = start_worker(broker, threads=4)
    for name in ("a", "b", "c"):
        act.send(name)
    broker.join("default", timeout=10_000)
    assert sorted(ran) == ["a", "a", "b", "b", "c", "c", "child a", "child b", "child c"]
    assert len(threads) == 1
    assert threads.isdisjoint(thread.ident for thread in worker.workers)


def test_callbacks_of_async_actors_follow(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    broker.add_middleware(AsyncIO())
    told: list[Any] = []

    @dramatiq.actor(broker=broker)
    def succeeded(message: dict[str, Any], result: int) -> None:
        told.append(result)

    @dramatiq.actor(broker=broker, on_success="succeeded")
    async def act() -> int:
        await asyncio.sleep(0)
        return 5

    start_worker(broker)
    act.send()
    broker.join("default", timeout=5_000)
    assert told == [5]


def test_current_message_is_the_running_one(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    broker.add_middleware(CurrentMessage())
    seen: dict[int, Any] = {}

    @dramatiq.actor(broker=broker)
    def act(number: int) -> None:
        message = CurrentMessage.get_current_message()
        assert message is not None
        seen[number] = (message.message_id, message.args, message.actor_name, message.queue_name)

    start_worker(broker, threads=4)
    sent = [act.send(number) for number in range(20)]
    broker.join("default", timeout=5_000)
    assert seen == {
        number: (message.message_id, (number,), "act", "default")
        for number, message in enumerate(sent)
    }


def test_a_delivery_looks_like_its_message(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    looks: list[Any] = []

    class Look(Middleware):
        def before_process_message(self, broker: Any, message: dramatiq.MessageProxy) -> None:
            looks.append(
                (
                    message.asdict(),
                    message.message_datetime,
                    str(message),
                    message.copy(options={"more": 1}),
                    message == sent,
                )
            )

    broker.add_middleware(Look())

    @dramatiq.actor(broker=broker)
    def act(number: int, *, name: str) -> None: ...

    sent = act.message_with_options(args=(1,), kwargs={"name": "x"}, colour="red")
    broker.enqueue(sent)
    start_worker(broker)
    broker.join("default", timeout=5_000)
    assert looks == [
        (
            sent.asdict(),
            sent.message_datetime,
            "act(1, name='x')",
            sent.copy(options={"more": 1}),
            True,
        )
    ]


def test_signals_of_a_message_come_in_dramatiqs_order(
    broker: RedisStreamsBroker, start_worker: StartWorker
) -> None:
    seen: list[str] = []
    # At the same time, in other threads.
    elsewhere = ("_enqueue", "_settle", "thread_boot", "thread_shutdown")

    class Signals(Middleware):
        """Not only overridden hooks are looked up: this one answers to every name."""

        def __getattribute__(self, name: str) -> Any:
            # Dramatiq does not know them.
            ours = name in ("before_delivery", "before_buffering")
            if name.startswith(("before_", "after_")) and not (ours or name.endswith(elsewhere)):
                return lambda *args, **kwargs: seen.append(name)
            return super().__getattribute__(name)

    broker.add_middleware(Signals())

    @dramatiq.actor(broker=broker, max_retries=0)
    def act(fails: bool) -> None:
        seen.append("act")
        if fails:
            raise RuntimeError("no")

    worker = start_worker(broker, threads=1)
    for fails in (False, True):
        act.send(fails)
        broker.join("default", timeout=5_000)
        wait_until(lambda: seen[-1] in ("after_ack", "after_nack"))
    worker.stop()
    declared = seen.index("after_declare_actor") + 1
    message = ["before_process_message", "act", "after_process_message"]
    assert seen[declared:] == [
        "before_worker_boot",
        "after_worker_boot",
        *[*message, "before_ack", "after_ack"],
        *[*message, "before_nack", "after_nack"],
        "before_worker_shutdown",
        "after_worker_shutdown",
    ]
