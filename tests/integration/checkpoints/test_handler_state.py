"""A handler's state: it commits with the end of each event, and goes on from the last committed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from tests.integration.logs.harness import Bench, Echo, Note, Spread, Vault, note, texts
from tests.support import wait_until

from streamatiq import HandlerState, checkpointed
from streamatiq.errors import HandlerDefinitionError, HandlerError, StateTooLarge
from streamatiq.testing import TestBroker
from streamatiq.workers import on

OpenBench = Callable[..., Bench]


def add(state: HandlerState, text: str) -> str:
    """Appends to what the state holds, and returns all of it."""
    known = (state.get() or b"").decode()
    after = f"{known}{text}"
    state.set(after.encode())
    return after


def held(bench: Bench, client: redis.Redis, cls: Any, name: str, part: str = "0") -> Any:
    return client.hgetall(bench.keys.log(cls.event_type, part).state).get(name.encode())


def test_each_event_finds_what_the_last_one_has_left(bench: Bench, client: redis.Redis) -> None:
    state = checkpointed("all")
    seen: list[str] = []
    running = threading.Semaphore(1)

    @bench.on(Spread, name="sums", ordered=True, state=state)
    def sums(event: Spread) -> Echo:
        assert running.acquire(blocking=False), "two events of a partition at the same time"
        try:
            seen.append(event.text)
            return Echo(ts_event=1, text=add(state, event.text + ";"))
        finally:
            running.release()

    bench.start(threads=4)
    # One key, and so one partition; another run below has many.
    bench.logs.publish_many([Spread(ts_event=1, key="K", text=str(n)) for n in range(200)])
    bench.settled("sums")
    assert seen == [str(n) for n in range(200)]
    whole = "".join(f"{n};" for n in range(200))
    assert texts(bench.read(Echo))[-1] == whole
    part = bench.logs.part_of(Spread(ts_event=1, key="K"))
    assert held(bench, client, Spread, "sums all", part)[8:] == whole.encode()


def test_keys_of_a_partition_take_turns_and_partitions_have_their_own(
    open_bench: OpenBench, client: redis.Redis
) -> None:
    state = checkpointed("n")
    benches = [open_bench(), open_bench()]
    for bench in benches:

        @bench.on(Spread, name="count", ordered=True, state=state, start="earliest")
        def count(event: Spread) -> Echo:
            return Echo(ts_event=1, text=add(state, "x"))

        bench.start(threads=4)
    first = benches[0]
    events = [Spread(ts_event=1, key=f"K{n % 11}", text=str(n)) for n in range(300)]
    first.logs.publish_many(events)
    first.settled("count")
    by_part = {str(part): 0 for part in range(4)}
    for event in events:
        by_part[first.logs.part_of(event)] += 1
    for part, number in by_part.items():
        kept = held(first, client, Spread, "count n", part)
        assert len(kept[8:] if kept else b"") == number
    assert sorted(len(text) for text in texts(first.read(Echo))) == sorted(
        n + 1 for number in by_part.values() for n in range(number)
    )


def test_what_fails_changes_nothing(bench: Bench) -> None:
    state = checkpointed("all")
    tries: list[str] = []

    @bench.on(Note, name="fails", ordered=True, state=state, max_retries=5)
    def fails(event: Note) -> Echo:
        after = add(state, event.text)
        tries.append(after)
        if len(tries) in (2, 3):
            raise RuntimeError("no")
        return Echo(ts_event=1, text=after)

    bench.start()
    bench.logs.publish_many([note("a"), note("b"), note("c")])
    bench.settled("fails")
    assert texts(bench.read(Echo)) == ["a", "ab", "abc"]
    assert tries == ["a", "ab", "ab", "ab", "abc"]


def test_a_run_on_a_state_that_was_not_committed_is_void(
    bench: Bench, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamatiq.broker.committer.RETRY_MS", 50)
    state = checkpointed("all")
    runs: list[str] = []

    @bench.on(Note, name="void", ordered=True, state=state)
    def void(event: Note) -> Any:
        runs.append(event.text)
        after = add(state, event.text)
        return Vault(ts_event=1, text=after) if event.text == "b" else Echo(ts_event=1, text=after)

    vault = bench.keys.log("test.vault", "0").entries
    client.set(vault, "no stream")  # what "b" emits cannot be committed
    bench.start()
    bench.logs.publish_many([note(one) for one in "abcd"])
    wait_until(lambda: len(runs) >= 6, what=lambda: str(runs))
    client.delete(vault)
    bench.settled("void")
    emitted = [*texts(bench.read(Echo)), *texts(bench.read(Vault))]
    # Each text is in the state once, and each emitted state follows from one that was committed.
    final = max(emitted, key=len)
    assert sorted(final) == list("abcd")
    assert sorted(emitted, key=len) == [final[: n + 1] for n in range(4)]


def test_another_process_goes_on(open_bench: OpenBench) -> None:
    state = checkpointed("all")

    def declare(bench: Bench) -> None:
        @bench.on(Note, name="moves", ordered=True, state=state, start="earliest")
        def moves(event: Note) -> Echo:
            return Echo(ts_event=1, text=add(state, event.text))

    first, second = open_bench(), open_bench()
    declare(first)
    declare(second)
    first.start()
    first.logs.publish(note("a"))
    first.settled("moves")
    first.stop()
    second.start()
    second.logs.publish(note("b"))
    second.settled("moves")
    third = open_bench()
    declare(third)
    third.start()
    second.stop()
    third.logs.publish(note("c"))
    third.settled("moves")
    assert texts(third.read(Echo)) == ["a", "ab", "abc"]


def test_what_another_has_written_meanwhile_is_found(bench: Bench, client: redis.Redis) -> None:
    """The one that remembers a state is refused, and reads it anew."""
    state = checkpointed("all")

    @bench.on(Note, name="other", ordered=True, state=state)
    def other(event: Note) -> Echo:
        return Echo(ts_event=1, text=add(state, event.text))

    bench.start()
    bench.logs.publish(note("a"))
    bench.settled("other")
    client.hset(bench.keys.log("test.note", "0").state, "other all", b"01234567" + b"zzz")
    bench.logs.publish(note("b"))
    bench.settled("other")
    assert texts(bench.read(Echo)) == ["a", "zzzb"]


def test_async_handlers_have_one_too(bench: Bench) -> None:
    state = checkpointed("all")

    @bench.on(Note, name="later", ordered=True, state=state)
    async def later(event: Note) -> Echo:
        before = state.get() or b""
        await asyncio.sleep(0)
        state.set(before + event.text.encode())
        return Echo(ts_event=1, text=(before + event.text.encode()).decode())

    bench.start()
    bench.logs.publish_many([note("a"), note("b")])
    bench.settled("later")
    assert texts(bench.read(Echo)) == ["a", "ab"]


def test_a_state_that_is_too_large_fails_the_event(bench: Bench) -> None:
    state = checkpointed("small", size_limit=3)

    @bench.on(Note, name="grows", ordered=True, state=state, max_retries=0)
    def grows(event: Note) -> Echo:
        return Echo(ts_event=1, text=add(state, event.text))

    bench.start()
    bench.logs.publish_many([note("ab"), note("cd"), note("e")])
    bench.settled("grows")
    assert texts(bench.read(Echo)) == ["ab", "abe"]
    (letter,) = bench.broker.dead_letters("grows")
    assert "would have 4 bytes, and its size_limit is 3" in letter.error
    assert issubclass(StateTooLarge, ValueError)


def test_with_test_broker() -> None:
    state = checkpointed("all")
    with TestBroker() as broker:

        @on(Note, name="twin", ordered=True, state=state, broker=broker)
        def twin(event: Note) -> Echo:
            return Echo(ts_event=1, text=add(state, event.text))

        broker.publish(note("a"), note("b"))
        broker.run_until_idle()
        assert [event.text for event in broker.published(Echo)] == ["a", "ab"]


def test_it_is_known_inside_its_handler_only(bench: Bench) -> None:
    mine, others = checkpointed("mine"), checkpointed("others")
    said: list[str] = []

    @bench.on(Note, name="inside", ordered=True, state=mine)
    def inside(event: Note) -> None:
        for act in (others.get, lambda: mine.set("text")):  # type: ignore[arg-type]
            with pytest.raises(HandlerError) as error:
                act()
            said.append(str(error.value))

    with pytest.raises(HandlerError, match="outside of its handler"):
        mine.get()
    bench.start()
    bench.logs.publish(note("a"))
    bench.settled("inside")
    assert "outside of its handler" in said[0]
    assert "is a str" in said[1]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "needs ordered=True"),
        ({"ordered": True, "batch": 2}, "batch=2 exclude"),
        ({"ordered": True, "conflate": True}, "conflate=True exclude"),
    ],
)
def test_what_cannot_have_one(bench: Bench, options: dict[str, Any], match: str) -> None:
    with pytest.raises(HandlerDefinitionError, match=match):

        @bench.on(Note, name="wrong", state=checkpointed("s"), **options)
        def wrong(event: Note) -> None: ...


def test_bad_declarations(bench: Bench) -> None:
    with pytest.raises(HandlerDefinitionError, match="cannot be the name"):
        checkpointed("a b")
    with pytest.raises(HandlerDefinitionError, match="size_limit is 0"):
        checkpointed("a", size_limit=0)
    with pytest.raises(HandlerDefinitionError, match="use what checkpointed"):

        @bench.on(Note, name="wrong", ordered=True, state="state")
        def wrong(event: Note) -> None: ...
