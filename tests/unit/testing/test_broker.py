"""`streamatiq.testing`: what users' tests call. The twin itself is tested in tests/conformance."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import dramatiq.broker
import pytest
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import QueueNotFound

import streamatiq
from streamatiq import Event, Lane, Partitioned, RedisStreamsBroker, Settings, on
from streamatiq.errors import (
    BrokerConnectionError,
    BrokerError,
    HandlerDefinitionError,
    NotAStreamatiqBroker,
    OutOfMemory,
)
from streamatiq.settings import EventBusSettings, RedisSettings
from streamatiq.testing import TestBroker, Twin

AT_ONCE = Settings(redis=RedisSettings(max_retries=0, retry_delay=0.05))


class Asked(Event, type="testing.asked", log=Partitioned(2)):
    text: str = ""


class Answered(Event, type="testing.answered", log=Partitioned(1)):
    text: str = ""


def asked(*words: str) -> list[Asked]:
    return [Asked(ts_event=1, text=word) for word in words]


@pytest.fixture
def broker() -> Iterator[TestBroker]:
    with TestBroker(settings=AT_ONCE) as made:
        yield made


@pytest.fixture
def no_global(monkeypatch: pytest.MonkeyPatch) -> None:
    """No broker is set, before and after."""
    monkeypatch.setattr(dramatiq.broker, "global_broker", None)


def test_business_keys_and_fencing_tokens(broker: TestBroker) -> None:
    seen: list[tuple[str, int]] = []

    @on(Asked, name="once", idempotency_key=lambda event: event.text, idempotency_ttl_s=60)
    def once(event: Asked) -> None:
        seen.append((event.text, streamatiq.fencing_token()))

    broker.publish(*asked("a", "a"))
    broker.run_until_idle()
    broker.twin.advance(121)
    broker.publish(*asked("a"))
    broker.run_until_idle()
    assert [text for text, _ in seen] == ["a", "a"]
    assert [token for _, token in seen] == [1, 2]


def test_a_business_key_that_a_dead_process_has_left(broker: TestBroker) -> None:
    @on(Asked, name="once", idempotency_key=lambda event: "k", on_uncertain="dead_letter")
    def once(event: Asked) -> None:
        raise AssertionError("it must not run")

    (receipt,) = broker.publish(*asked("a"))
    keys = broker.keys.log("testing.asked", receipt.part).subscription("once")
    with broker.client() as client:
        client.hset(keys.keys, "k", f"r {receipt.entry_id} gone")
    broker.run_until_idle()
    assert [letter.cause for letter in broker.dead_letters("once")] == ["uncertain"]


def test_handlers_run_until_nothing_is_left(broker: TestBroker) -> None:
    seen: list[str] = []

    @on(Asked, name="answer")
    def answer(event: Asked) -> Answered:
        return Answered(ts_event=2, text=event.text.upper())

    @on(Answered, name="tell")
    def tell(event: Answered) -> None:
        act.send(event.text)

    @dramatiq.actor
    def act(text: str) -> None:
        seen.append(text)

    receipts = broker.publish(*asked("a", "b"))
    assert len({receipt.entry_id for receipt in receipts}) >= 1
    broker.run_until_idle()
    assert [event.text for event in broker.published(Answered)] == ["A", "B"]
    assert sorted(seen) == ["A", "B"]
    assert broker.failures == []
    assert broker.backlog("answer") == 0


def test_failures_are_told_and_retries_do_not_take_their_time(broker: TestBroker) -> None:
    @on(Asked, name="fails", max_retries=2)
    def fails(event: Asked) -> None:
        raise LookupError(event.text)

    broker.publish(*asked("x"))
    began_ms = broker.twin.now_ms
    broker.run_until_idle()
    assert [
        (one.name, one.args[0].text, str(one.error), one.attempt) for one in broker.failures
    ] == [("fails", "x", "x", attempt) for attempt in (1, 2, 3)]
    [letter] = broker.dead_letters("fails")
    assert (letter.cause, letter.attempts) == ("failed", 3)
    assert broker.twin.now_ms - began_ms >= 15_000, "Dramatiq waits 15 s before the first retry"


def test_delays_are_skipped_only_if_asked(broker: TestBroker) -> None:
    seen: list[str] = []

    @dramatiq.actor
    def act(text: str) -> None:
        seen.append(text)

    act.send_with_options(args=("tomorrow",), delay=86_400_000)
    act.send_with_options(args=("high",), priority=Lane.HIGH)
    act.send("now")
    assert [message.args for message in broker.queued()] == [("high",), ("now",), ("tomorrow",)]
    broker.run_until_idle(skip_delays=False)
    assert seen == ["high", "now"]
    broker.twin.advance(86_400)
    broker.run_until_idle(skip_delays=False)
    assert seen == ["high", "now", "tomorrow"]
    assert broker.queued() == []


def test_delayed_messages_run_in_the_order_of_their_times(broker: TestBroker) -> None:
    seen: list[int] = []

    @dramatiq.actor
    def act(number: int) -> None:
        seen.append(number)

    for hours in (3, 1, 2):
        act.send_with_options(args=(hours,), delay=hours * 3_600_000)
    broker.run_until_idle()
    assert seen == [1, 2, 3]


def test_work_without_end_is_told(broker: TestBroker) -> None:
    @dramatiq.actor
    def again() -> None:
        again.send_with_options(delay=1_000)

    again.send()
    # Two, if it runs at that moment: itself, and the next one.
    with pytest.raises(TimeoutError, match=r"default: [12]\).*skip_delays=False"):
        broker.run_until_idle(timeout_s=0.3)
    broker.run_until_idle(skip_delays=False)


def test_adopts_the_handlers_of_another_broker_for_a_while(no_global: None) -> None:
    # Nobody listens there: whoever connected would fail.
    lender = RedisStreamsBroker("redis://127.0.0.1:1", namespace="lent", settings=AT_ONCE)
    dramatiq.set_broker(lender)

    @on(Asked, name="answer")
    def answer(event: Asked) -> Answered:
        return Answered(ts_event=2, text=event.text)

    @dramatiq.actor
    def act() -> None: ...

    for _ in range(2):  # each test has data of its own
        with TestBroker.adopt() as broker:
            assert broker.keys.namespace == "lent"
            streamatiq.publish(asked("a")[0])
            act.send()
            broker.run_until_idle()
            assert [event.text for event in broker.published(Answered)] == ["a"]
        assert act.broker is lender
        assert answer.broker is lender
        assert dramatiq.broker.global_broker is lender
    assert len(lender.middleware) == len(set(map(type, lender.middleware)))
    with pytest.raises(BrokerConnectionError):
        act.send()
    lender.close()


def test_a_global_broker_of_another_kind_is_refused(no_global: None) -> None:
    dramatiq.set_broker(StubBroker())
    with pytest.raises(NotAStreamatiqBroker):
        TestBroker.adopt()


def test_clear_begins_anew(broker: TestBroker) -> None:
    @on(Asked, name="answer", max_retries=0)
    def answer(event: Asked) -> Answered:
        if event.text == "bad":
            raise ValueError
        return Answered(ts_event=2, text=event.text)

    broker.publish(*asked("a", "bad"))
    broker.run_until_idle()
    broker.clear()
    assert broker.published(Answered) == broker.published(Asked) == broker.failures == []
    assert list(broker.dead_letters("answer")) == []
    broker.publish(*asked("b"))
    broker.run_until_idle()
    assert [event.text for event in broker.published(Answered)] == ["b"]


def test_two_brokers_on_one_twin_are_two_processes(no_global: None) -> None:
    with Twin() as twin, TestBroker(twin=twin) as one, TestBroker(twin=twin) as other:
        seen: list[str] = []

        @on(Asked, name="seen", broker=one)
        def see(event: Asked) -> None:
            seen.append(event.text)

        other.publish(*asked("from the other"))
        one.run_until_idle()
        assert seen == ["from the other"]


def test_ids_are_forgotten_after_the_window_by_the_twins_clock(no_global: None) -> None:
    settings = Settings(event_bus=EventBusSettings(idempotency_window=300))
    with TestBroker(settings=settings) as broker:
        event = asked("a")[0]
        assert [one.duplicate for one in broker.publish(event)] == [False]
        broker.twin.advance(299)
        assert [one.duplicate for one in broker.publish(event)] == [True]
        broker.twin.advance(400)
        assert [one.duplicate for one in broker.publish(event)] == [False]


def test_full_memory_and_cut_connections_can_be_tried(broker: TestBroker) -> None:
    broker.twin.fill()
    with pytest.raises(OutOfMemory):
        broker.publish(*asked("a"))
    broker.twin.fill(False)
    broker.publish(*asked("a"))
    broker.twin.cut()
    assert len(broker.published(Asked)) == 1  # it connects again


def test_coroutines_publish_to_the_twin(broker: TestBroker) -> None:
    async def publish() -> None:
        await streamatiq.apublish_many(asked("a", "b"))
        await broker.logs.aclose()

    asyncio.run(publish())
    assert sorted(event.text for event in broker.published(Asked)) == ["a", "b"]


def test_coroutine_handlers_run_as_often_as_asked(broker: TestBroker) -> None:
    @on(Asked, name="answer")
    async def answer(event: Asked) -> Answered:
        await asyncio.sleep(0)
        return Answered(ts_event=2, text=event.text)

    for text in ("a", "b"):
        broker.publish(*asked(text))
        broker.run_until_idle()
    assert [event.text for event in broker.published(Answered)] == ["a", "b"]
    assert broker.failures == []


def test_handlers_may_run_side_by_side(broker: TestBroker) -> None:
    both = threading.Barrier(2)

    @on(Asked, name="meet", max_retries=0)
    def meet(event: Asked) -> None:
        both.wait(5)

    broker.publish(*asked("a", "b"))
    broker.run_until_idle(threads=2)
    assert broker.failures == []


def test_a_subscription_has_no_messages(broker: TestBroker) -> None:
    @on(Asked, name="answer")
    def answer(event: Asked) -> None: ...

    with pytest.raises(HandlerDefinitionError):
        broker.queued("answer")


def test_nothing_is_left_of_a_closed_twin() -> None:
    twin = Twin()
    path = twin.url.removeprefix("unix://")
    twin.close()
    twin.close()
    assert not Path(path).parent.exists()
    with pytest.raises(BrokerError, match="is closed"):
        twin.advance(1)


def test_a_long_temporary_path_is_avoided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with Twin() as twin:
        assert len(twin.url) < 108
        assert list(long.iterdir()) == []


def test_a_twin_that_nobody_closes_leaves_nothing() -> None:
    program = (
        "from streamatiq.testing import TestBroker\n"
        "broker = TestBroker()\n"
        "print(broker.twin.url.removeprefix('unix://'))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )
    assert run.stderr == ""
    assert not Path(run.stdout.strip()).parent.exists()


def test_names_that_were_never_declared_are_refused(broker: TestBroker) -> None:
    @dramatiq.actor(queue_name="mail")
    def post() -> None:
        pass

    assert broker.queued("mail") == []
    assert list(broker.dead_letters("mail")) == []
    refusal = "'nope' was declared on this test broker; there are: mail"
    with pytest.raises(QueueNotFound, match=refusal):
        broker.queued("nope")
    with pytest.raises(QueueNotFound, match=refusal):
        broker.dead_letters("nope")  # not only when it is iterated


def test_a_closed_broker_says_so_at_once() -> None:
    with TestBroker() as broker:  # repeats lost connections for seconds

        @dramatiq.actor(queue_name="mail")
        def post() -> None:
            pass

        post.send()
    for use in (
        post.send,
        lambda: broker.queued("mail"),
        lambda: broker.publish(*asked("a")),
        lambda: asyncio.run(broker.logs.apublish(*asked("a"))),
    ):
        with pytest.raises(BrokerError, match="test broker is closed") as caught:
            use()
        assert not isinstance(caught.value, BrokerConnectionError)
    broker.close()
