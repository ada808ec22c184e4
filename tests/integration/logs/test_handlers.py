"""What a handler gives back, and what is committed with the end of its delivery."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4, uuid5

import dramatiq
import pytest
import redis
from dramatiq.middleware import AsyncIO
from tests.integration.logs.harness import Bench, Echo, Note, Spread, note, texts
from tests.support import wait_until

from streamatiq import emit
from streamatiq.errors import HandlerError


def _echo(text: str) -> Echo:
    return Echo(ts_event=2, text=text)


def test_a_returned_event_is_emitted(bench: Bench) -> None:
    @bench.on(Note, name="returns")
    def handler(event: Note) -> Echo:
        return _echo(f"re {event.text}")

    bench.start()
    bench.logs.publish(note("one"))
    assert bench.echoes(1) == ["re one"]


def test_returned_yielded_and_emitted_events_keep_their_order(bench: Bench) -> None:
    @bench.on(Note, name="lists")
    def lists(event: Note) -> list[Echo]:
        emit(_echo("emitted 1"), _echo("emitted 2"))
        return [_echo("returned 1"), _echo("returned 2")]

    @bench.on(Spread, name="yields")
    def yields(event: Spread) -> Iterator[Echo]:
        yield _echo("yielded 1")
        emit(_echo("between"))
        yield _echo("yielded 2")

    bench.start()
    bench.logs.publish(note(""))
    assert bench.echoes(4) == ["emitted 1", "emitted 2", "returned 1", "returned 2"]
    bench.logs.publish(Spread(ts_event=1))
    assert bench.echoes(7)[4:] == ["yielded 1", "between", "yielded 2"]


def test_async_handlers_and_async_generators_emit(bench: Bench) -> None:
    @bench.on(Note, name="coroutine")
    async def coroutine(event: Note) -> Echo:
        await asyncio.sleep(0)
        emit(_echo("emitted"))
        return _echo("returned")

    @bench.on(Spread, name="generator")
    async def generator(event: Spread) -> AsyncIterator[Echo]:
        yield _echo("first")
        await asyncio.sleep(0)
        yield _echo("second")

    assert any(isinstance(one, AsyncIO) for one in bench.broker.middleware)
    bench.start()
    bench.logs.publish(note(""))
    assert bench.echoes(2) == ["emitted", "returned"]
    bench.logs.publish(Spread(ts_event=1))
    assert bench.echoes(4)[2:] == ["first", "second"]


def test_called_by_hand_a_handler_behaves_as_written(bench: Bench) -> None:
    @bench.on(Note, name="sync")
    def sync(event: Note) -> Echo:
        return _echo(event.text)

    @bench.on(Note, name="async")
    async def coroutine(event: Note) -> Echo:
        return _echo(event.text)

    @bench.on(Note, name="asyncgen")
    async def generator(event: Note) -> AsyncIterator[Echo]:
        yield _echo(event.text)

    assert sync.fn(note("a")).text == "a"
    assert asyncio.run(coroutine.fn.__wrapped__(note("b"))).text == "b"
    assert bench.read(Echo) == []


def test_emits_are_not_visible_before_the_handler_has_ended(bench: Bench) -> None:
    emitted, go_on = threading.Event(), threading.Event()

    @bench.on(Note, name="slow")
    def slow(event: Note) -> None:
        emit(_echo("late"))
        emitted.set()
        assert go_on.wait(10)

    bench.start()
    bench.logs.publish(note(""))
    assert emitted.wait(10)
    assert bench.read(Echo) == []
    go_on.set()
    assert bench.echoes(1) == ["late"]


def test_a_failing_handler_emits_nothing(bench: Bench) -> None:
    runs: list[str] = []

    @bench.on(Note, name="fails", max_retries=2)
    def fails(event: Note) -> None:
        emit(_echo(f"run {len(runs)}"))
        runs.append(event.text)
        if len(runs) < 3:
            raise RuntimeError("not yet")

    bench.start()
    bench.logs.publish(note("x"))
    assert bench.echoes(1) == ["run 2"]
    bench.settled("fails")
    assert bench.echoes(1) == ["run 2"]
    assert len(runs) == 3


def test_what_is_not_an_event_is_a_failure_that_says_so(bench: Bench) -> None:
    @bench.on(Note, name="wrong", max_retries=0)
    def wrong(event: Note) -> Any:
        emit(_echo("before"))
        return {"nothing": "of ours"} if event.text == "dict" else 17

    bench.start(threads=1)
    bench.logs.publish_many([note("dict"), note("int")])
    bench.settled("wrong")
    letters = list(bench.broker.dead_letters("wrong"))
    assert [letter.cause for letter in letters] == ["failed", "failed"]
    assert "'wrong' returned, yielded or emitted 'nothing', which is a str" in letters[0].error
    assert "emitted 17, which is a int and not an Event" in letters[1].error
    assert bench.read(Echo) == []


def test_emitted_events_have_derived_ids_and_their_causes(bench: Bench) -> None:
    @bench.on(Note, name="derives")
    def derives(event: Note) -> list[Echo]:
        return [_echo("0"), Echo(ts_event=2, text="1", trace={"traceparent": "own"})]

    bench.start()
    root, middle = uuid4(), uuid4()
    cause = note("", correlation_id=root, causation_id=middle, trace={"traceparent": "theirs"})
    bench.logs.publish(cause)
    bench.echoes(2)
    first, second = (entry.event for entry in bench.read(Echo))
    assert first.id == uuid5(cause.id, "derives:0")
    assert second.id == uuid5(cause.id, "derives:1")
    assert first.causation_id == second.causation_id == cause.id
    assert first.correlation_id == second.correlation_id == root
    assert first.trace == {"traceparent": "theirs"}
    assert second.trace == {"traceparent": "own"}
    assert first.ts_published is not None


def test_without_a_correlation_the_cause_begins_the_chain(bench: Bench) -> None:
    @bench.on(Note, name="begins")
    def begins(event: Note) -> Echo:
        return _echo("")

    bench.start()
    cause = note("")
    bench.logs.publish(cause)
    bench.echoes(1)
    assert bench.read(Echo)[0].event.correlation_id == cause.id


def test_one_handler_of_several_types_and_two_subscriptions_of_one(bench: Bench) -> None:
    both: list[str] = []
    alone: list[str] = []

    @bench.on(Note, Spread, name="both")
    def handles_both(event: Note | Spread) -> None:
        both.append(f"{type(event).__name__} {event.text}")

    @bench.on(Note, name="alone")
    def handles_one(event: Note) -> None:
        alone.append(event.text)

    bench.start()
    bench.logs.publish_many([note(n) for n in range(5)])
    bench.logs.publish_many([Spread(ts_event=1, text=str(n), key=str(n)) for n in range(5)])
    wait_until(lambda: len(both) >= 10 and len(alone) >= 5)
    bench.settled("both", "alone")
    assert sorted(both) == sorted(
        [f"Note {n}" for n in range(5)] + [f"Spread {n}" for n in range(5)]
    )
    assert sorted(alone) == [str(n) for n in range(5)]


def test_a_new_subscription_starts_where_it_says(bench: Bench) -> None:
    bench.logs.publish(note("old"))
    new: list[str] = []
    earliest: list[str] = []
    bench.on(Note, name="new")(lambda event: new.append(event.text))
    bench.on(Note, name="earliest", start="earliest")(lambda event: earliest.append(event.text))
    bench.start()
    bench.logs.publish(note("young"))
    wait_until(lambda: len(new) >= 1 and len(earliest) >= 2)
    bench.settled("new", "earliest")
    assert new == ["young"]
    assert sorted(earliest) == ["old", "young"]


def test_a_subscription_that_exists_goes_on_where_it_was(
    open_bench: Callable[..., Bench],
) -> None:
    seen: list[str] = []
    first = open_bench()
    first.on(Note, name="lasting")(lambda event: seen.append(event.text))
    first.start()
    first.logs.publish(note("one"))
    wait_until(lambda: seen == ["one"])
    first.stop()
    second = open_bench()
    second.logs.publish(note("two"))
    second.on(Note, name="lasting")(lambda event: seen.append(event.text))
    second.start()
    wait_until(lambda: len(seen) == 2)
    second.settled("lasting")
    assert seen == ["one", "two"]


def test_emit_outside_of_a_handler_is_refused(bench: Bench) -> None:
    with pytest.raises(HandlerError, match=r"emit\(\) was called outside of a handler .* publish"):
        emit(_echo(""))


def test_emit_in_a_plain_actor_is_refused(bench: Bench) -> None:
    raised: list[BaseException] = []

    @dramatiq.actor(broker=bench.broker, max_retries=0)
    def plain() -> None:
        try:
            emit(_echo(""))
        except HandlerError as error:
            raised.append(error)

    bench.start()
    plain.send()
    bench.settled("default")
    assert len(raised) == 1
    assert bench.read(Echo) == []


def test_what_a_callback_sends_is_committed_with_the_settle(
    bench: Bench, client: redis.Redis
) -> None:
    told: list[Any] = []

    @dramatiq.actor(broker=bench.broker)
    def tell(message: Any, result: Any) -> None:
        told.append((message["actor_name"], message["args"], result))

    bench.on(Note, name="with_callback", on_success="tell")(lambda event: None)
    bench.start()
    bench.logs.publish(note("for the callback"))
    wait_until(lambda: told)
    bench.settled("with_callback", "default")
    ((actor, args, result),) = told
    assert (actor, result) == ("with_callback", None)
    assert "for the callback" in args[0]
    assert texts(bench.logs.read(Note)) == ["for the callback"]
