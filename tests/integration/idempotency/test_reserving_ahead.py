"""Keys of what is read together are reserved at once, before threads take it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import dramatiq.worker
import pytest
import redis
from tests.integration.idempotency.test_handlers import by_text, keys_of, set_key
from tests.integration.logs.harness import Bench, Note, note
from tests.support import wait_until

from streamatiq import Idempotency
from streamatiq.broker.connections import LinkPool
from streamatiq.broker.reservations import Answer, Ask, reserve_all
from streamatiq.errors import BrokerConnectionError
from streamatiq.events import Lane
from streamatiq.workers import idempotency, reserving_ahead


class Slow:
    """A handler whose first run waits."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.started, self.go_on = threading.Event(), threading.Event()

    def __call__(self, text: str) -> None:
        self.runs.append(text)
        self.started.set()
        assert self.go_on.wait(10)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    # So that several are read while one runs.
    monkeypatch.setattr(dramatiq.worker, "QUEUE_PREFETCH", 10)
    return Slow()


def declare(bench: Bench, slow: Slow, **options: Any) -> None:
    @bench.on(Note, name="ahead", start="earliest", idempotency_key=by_text, **options)
    def handle(event: Note) -> None:
        slow(event.text)


def reserved(bench: Bench, client: redis.Redis) -> list[bytes]:
    return sorted(key for key, what in keys_of(bench, client, "ahead").items() if what[:1] == b"r")


def test_all_that_one_read_has_brought(bench: Bench, client: redis.Redis, slow: Slow) -> None:
    declare(bench, slow)
    bench.logs.publish_many([note(text) for text in "abcd"])
    bench.start(threads=1)
    assert slow.started.wait(10)
    # What was read: as many as there is room for, more than what runs.
    read = reserved(bench, client)
    assert len(read) > 1
    slow.go_on.set()
    bench.settled("ahead")
    assert slow.runs == list("abcd")
    assert keys_of(bench, client, "ahead") == dict.fromkeys((b"a", b"b", b"c", b"d"), b"d")


@pytest.mark.parametrize("on_uncertain", ["dead_letter", lambda event: False], ids=["dlq", "ask"])
def test_nothing_is_where_one_would_be_asked_for_what_never_began(
    bench: Bench, client: redis.Redis, slow: Slow, on_uncertain: Any
) -> None:
    declare(bench, slow, on_uncertain=on_uncertain)
    bench.logs.publish_many([note(text) for text in "abcd"])
    bench.start(threads=1)
    assert slow.started.wait(10)
    assert reserved(bench, client) == [b"a"]
    slow.go_on.set()
    bench.settled("ahead")
    assert slow.runs == list("abcd")


def test_who_waited_for_long_asks_again(
    bench: Bench, client: redis.Redis, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "FRESH_S", 0.0)
    declare(bench, slow)
    bench.logs.publish_many([note(text) for text in "ab"])
    bench.start(threads=1)
    assert slow.started.wait(10)
    wait_until(lambda: b"b" in reserved(bench, client), what="the second one is reserved, too")
    # Meanwhile its process was taken for dead, and another one has done it.
    set_key(bench, client, "ahead", "b", "d")
    slow.go_on.set()
    bench.settled("ahead")
    assert slow.runs == ["a"]


def test_a_fresh_one_does_not(
    bench: Bench, slow: Slow, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(links: LinkPool, asks: Sequence[Ask]) -> list[list[Answer] | Exception]:
        asked.extend(len(one.wants) for one in asks)
        return reserve_all(links, asks)

    monkeypatch.setattr(idempotency, "FRESH_S", 3600.0)
    monkeypatch.setattr(idempotency, "reserve_all", counted)
    monkeypatch.setattr(reserving_ahead, "reserve_all", counted)
    declare(bench, slow)
    bench.logs.publish_many([note(f"{n}") for n in range(20)])
    slow.go_on.set()
    bench.start(threads=1)
    bench.settled("ahead")
    assert sum(asked) == 20
    assert max(asked) > 1
    assert sorted(slow.runs, key=int) == [f"{n}" for n in range(20)]


@pytest.mark.parametrize("done", [True, False], ids=["reply lost", "not done"])
def test_a_lost_reply_is_not_taken_for_a_dead_run(
    bench: Bench,
    client: redis.Redis,
    slow: Slow,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    done: bool,
) -> None:
    def lost(links: LinkPool, asks: Sequence[Ask]) -> list[list[Answer] | Exception]:
        if done:
            reserve_all(links, asks)
        raise BrokerConnectionError("lost")

    monkeypatch.setattr(reserving_ahead, "reserve_all", lost)
    declare(bench, slow)
    bench.logs.publish_many([note(text) for text in "abc"])
    slow.go_on.set()
    with caplog.at_level(logging.WARNING):
        bench.start(threads=1)
        bench.settled("ahead")
    assert slow.runs == list("abc")
    assert "nobody knows" not in caplog.text
    assert set(keys_of(bench, client, "ahead").values()) == {b"d"}


def test_messages_of_plain_actors_too(bench: Bench, client: redis.Redis, slow: Slow) -> None:
    bench.broker.add_middleware(Idempotency())

    @dramatiq.actor(
        broker=bench.broker, queue_name="plain", idempotency_key=lambda text, **more: text
    )
    def act(text: str, **more: int) -> None:
        slow(text)

    @dramatiq.actor(broker=bench.broker, queue_name="plain")
    def free(text: str) -> None:
        slow.runs.append(text)

    for text in "abab":
        act.send(text, more=1)
    free.send("x")
    bench.start(threads=1)
    assert slow.started.wait(10)
    found: Any = client.hgetall(bench.keys.queue("plain").lane(Lane.NORMAL).keys)
    assert {b"act:a", b"act:b"} <= set(found)
    slow.go_on.set()
    bench.broker.join("plain", timeout=10_000)
    assert sorted(slow.runs) == ["a", "b", "x"]


@pytest.mark.parametrize(
    "key", [lambda event: 1 / 0, lambda event: 5, lambda event: None], ids=["raises", "int", "none"]
)
def test_what_is_wrong_with_a_key_is_said_where_it_runs(
    bench: Bench, slow: Slow, key: Callable[[Note], Any]
) -> None:
    slow.go_on.set()

    @bench.on(Note, name="wrong", start="earliest", idempotency_key=key, max_retries=0)
    def handle(event: Note) -> None:
        slow(event.text)

    bench.logs.publish_many([note(text) for text in "abc"])
    bench.start(threads=1)
    bench.settled("wrong")
    failed = [one.cause for one in bench.broker.dead_letters("wrong")]
    assert (slow.runs, failed) in ((list("abc"), []), ([], ["failed"] * 3))


def test_what_an_operator_has_requeued_is_reserved_for_its_run(
    bench: Bench, client: redis.Redis, slow: Slow, caplog: pytest.LogCaptureFixture
) -> None:
    slow.go_on.set()

    @bench.on(Note, name="ahead", start="earliest", idempotency_key=by_text, max_retries=0)
    def handle(event: Note) -> None:
        slow(event.text)
        if event.text == "a":
            raise RuntimeError("no")

    receipt, _ = bench.logs.publish_many([note("a"), note("b")])
    set_key(bench, client, "ahead", "a", f"u {receipt.entry_id}")
    bench.start(threads=1)
    bench.settled("ahead")
    assert sorted(slow.runs) == ["a", "b"]
    # It failed, and so the key is free: nothing stays reserved.
    assert keys_of(bench, client, "ahead") == {b"b": b"d"}
    assert "nobody knows" not in caplog.text


def test_in_a_batch_the_outside_world_is_asked_too(bench: Bench, client: redis.Redis) -> None:
    asked: list[str] = []
    ran: list[list[str]] = []

    def ask(event: Note) -> bool:
        asked.append(event.text)
        return True

    @bench.on(Note, name="ahead", start="earliest", idempotency_key=by_text, on_uncertain=ask,
              batch=10)  # fmt: skip
    def handle(events: list[Note]) -> None:
        ran.append([event.text for event in events])

    receipts = bench.logs.publish_many([note(text) for text in "abc"])
    set_key(bench, client, "ahead", "b", f"r {receipts[1].entry_id} deadrun")
    bench.start(threads=1)
    bench.settled("ahead")
    assert asked == ["b"]
    assert sorted(text for texts in ran for text in texts) == ["a", "c"]
    assert set(keys_of(bench, client, "ahead").values()) == {b"d"}


def test_brokers_that_share_the_middleware_share_no_keys(
    open_bench: Callable[..., Bench], client: redis.Redis, slow: Slow
) -> None:
    shared = Idempotency()
    first, second = open_bench(), open_bench()
    for bench, key in ((first, by_text), (second, lambda event: "k")):
        bench.broker.add_middleware(shared)

        @bench.on(Note, name="ahead", start="earliest", idempotency_key=key)
        def handle(event: Note) -> None:
            slow(event.text)

    slow.go_on.set()
    first.logs.publish_many([note(text) for text in "abc"])
    first.start(threads=1)
    first.settled("ahead")
    assert slow.runs == list("abc")
    assert set(keys_of(first, client, "ahead")) == {b"a", b"b", b"c"}
