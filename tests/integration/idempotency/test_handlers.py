"""Handlers with business keys: one run a key, and what becomes of the key."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import redis
from dramatiq import Message
from dramatiq.middleware import Middleware, TimeLimitExceeded
from tests.integration.logs.harness import Bench, Echo, Note, Urgent, note
from tests.support import CuttingProxy, wait_until

from streamatiq import Idempotency
from streamatiq.broker import DeadLetterFilter, current_delivery
from streamatiq.errors import UncertainOutcome


def keys_of(bench: Bench, client: redis.Redis, name: str) -> dict[bytes, bytes]:
    """What stands at the business keys of a subscription to notes; of those that are done, not by
    which entry."""
    keys = bench.keys.log("test.note", "0").subscription(name)
    young: Any = client.hgetall(keys.keys)
    return {key: b"d" if what.startswith(b"d ") else what for key, what in young.items()}


def set_key(bench: Bench, client: redis.Redis, name: str, key: str, value: str) -> None:
    client.hset(bench.keys.log("test.note", "0").subscription(name).keys, key, value)


def run_of_entry(value: bytes) -> bytes:
    return value.split()[1]


def by_text(event: Note) -> str:
    return event.text


def test_of_the_events_of_one_key_one_runs(bench: Bench, client: redis.Redis) -> None:
    runs: list[str] = []

    @bench.on(Note, name="once", idempotency_key=by_text)
    def once(event: Note) -> Echo:
        runs.append(event.text)
        return Echo(ts_event=2, text=event.text)

    assert sum(isinstance(one, Idempotency) for one in bench.broker.middleware) == 1
    bench.start(threads=4)
    bench.logs.publish_many([note(text) for text in "abcab" * 10])
    bench.settled("once")
    assert sorted(runs) == ["a", "b", "c"]
    assert sorted(bench.echoes(3)) == ["a", "b", "c"]
    assert keys_of(bench, client, "once") == {b"a": b"d", b"b": b"d", b"c": b"d"}
    records = bench.audit(client, Note, "once")
    assert sum(one.get("done", 0) for one in records) == 3
    assert sum(one.get("duplicate", 0) for one in records) == 47


@pytest.mark.parametrize("none", [None, ""])
def test_an_event_without_a_key_always_runs(bench: Bench, none: str | None) -> None:
    runs: list[str] = []

    @bench.on(Note, name="keyless", idempotency_key=lambda event: none)
    def keyless(event: Note) -> None:
        runs.append(event.text)

    bench.start()
    bench.logs.publish_many([note("a"), note("a")])
    bench.settled("keyless")
    assert runs == ["a", "a"]


def test_two_at_a_time_the_second_waits_and_is_a_duplicate(
    bench: Bench, client: redis.Redis
) -> None:
    runs: list[int] = []
    started, go_on = threading.Event(), threading.Event()

    @bench.on(Note, name="waits", idempotency_key=by_text)
    def waits(event: Note) -> None:
        runs.append(1)
        started.set()
        assert go_on.wait(10)

    bench.start(threads=2)
    first, second = note("a"), note("a")
    bench.logs.publish(first)
    assert started.wait(10)
    bench.logs.publish(second)
    parked = bench.keys.log("test.note", "0").subscription("waits").parked
    wait_until(lambda: client.zcard(parked) == 1, what="the second one is parked")
    go_on.set()
    bench.settled("waits")
    assert runs == [1]


def test_a_failure_frees_the_key_for_the_next_event(bench: Bench, client: redis.Redis) -> None:
    runs: list[str] = []

    @bench.on(Note, name="fails", idempotency_key=lambda event: "k", max_retries=1)
    def fails(event: Note) -> None:
        runs.append(event.text)
        if event.text == "bad":
            raise RuntimeError("bad")

    bench.start(threads=1)
    bench.logs.publish(note("bad"))
    bench.settled("fails")
    assert runs == ["bad", "bad"]
    assert keys_of(bench, client, "fails") == {}
    bench.logs.publish(note("good"))
    bench.settled("fails")
    assert runs[2:] == ["good"]


@pytest.mark.parametrize(
    ("on_uncertain", "runs", "causes", "stands"),
    [
        ("rerun", ["a"], [], b"d"),
        ("dead_letter", [], ["uncertain"], b"u"),
        (lambda event: False, ["a"], [], b"d"),
        (lambda event: True, [], [], b"d"),
        (lambda event: Echo(ts_event=3, text="asked"), [], [], b"d"),
        (lambda event: [], [], [], b"d"),
    ],
)
def test_where_a_run_of_the_entry_died(
    bench: Bench,
    client: redis.Redis,
    on_uncertain: Any,
    runs: list[str],
    causes: list[str],
    stands: bytes,
) -> None:
    ran: list[str] = []

    @bench.on(Note, name="died", start="earliest", idempotency_key=by_text,
              on_uncertain=on_uncertain)  # fmt: skip
    def died(event: Note) -> Echo:
        ran.append(event.text)
        return Echo(ts_event=2, text="ran")

    receipt = bench.logs.publish(note("a"))
    set_key(bench, client, "died", "a", f"r {receipt.entry_id} feedbeef")
    bench.start()
    bench.settled("died")
    assert ran == runs
    assert [one.cause for one in bench.broker.dead_letters("died")] == causes
    assert keys_of(bench, client, "died")[b"a"][:1] == stands
    asked = callable(on_uncertain) and isinstance(on_uncertain(note("a")), Echo)
    expected = ["asked"] if asked else ["ran"] * len(runs)
    assert [one.event.text for one in bench.read(Echo)] == expected


def test_the_dead_letter_of_an_uncertain_one_runs_when_it_is_requeued(
    bench: Bench, client: redis.Redis
) -> None:
    ran: list[str] = []

    @bench.on(Note, name="asks", start="earliest", idempotency_key=lambda event: "k",
              on_uncertain="dead_letter")  # fmt: skip
    def asks(event: Note) -> None:
        ran.append(event.text)

    receipt = bench.logs.publish(note("first"))
    set_key(bench, client, "asks", "k", f"r {receipt.entry_id} feedbeef")
    bench.start()
    bench.settled("asks")
    bench.logs.publish(note("second"))
    bench.settled("asks")
    letters = list(bench.broker.dead_letters("asks"))
    assert [one.cause for one in letters] == ["uncertain", "uncertain"]
    assert "UncertainOutcome" in letters[0].error
    assert "'k'" in letters[0].error
    assert letters[0].attempts == 0
    names = [one.entry_id for one in letters]
    assert keys_of(bench, client, "asks") == {b"k": f"u {names[0]} {names[1]}".encode()}
    where = DeadLetterFilter(causes=["uncertain"], ids=[letters[0].id])
    assert bench.broker.requeue_dead_letters("asks", where) == {"requeued": 1}
    bench.settled("asks")
    assert ran == ["first"]
    assert keys_of(bench, client, "asks") == {b"k": b"d"}
    # The other one is a duplicate now.
    assert bench.broker.requeue_dead_letters("asks", DeadLetterFilter()) == {"requeued": 1}
    bench.settled("asks")
    assert ran == ["first"]
    assert list(bench.broker.dead_letters("asks")) == []


def test_a_holder_that_is_not_pending_any_more_leaves_it_uncertain(
    bench: Bench, client: redis.Redis
) -> None:
    ran: list[str] = []
    asked: list[str] = []

    def ask(event: Note) -> bool:
        asked.append(event.text)
        return False

    @bench.on(Note, name="left", start="earliest", idempotency_key=by_text, on_uncertain=ask)
    def left(event: Note) -> None:
        ran.append(event.text)

    bench.logs.publish(note("a"))
    set_key(bench, client, "left", "a", "r 1-1 feedbeef")
    bench.start()
    bench.settled("left")
    assert (asked, ran) == (["a"], ["a"])


def test_asking_that_fails_is_a_failure_of_the_delivery_and_is_asked_again(
    bench: Bench, client: redis.Redis
) -> None:
    ran: list[str] = []
    asked: list[bytes] = []

    def ask(event: Note) -> bool:
        asked.append(keys_of(bench, client, "asked")[b"a"])
        if len(asked) < 3:
            raise ConnectionError("the venue does not answer")
        return True

    @bench.on(Note, name="asked", start="earliest", idempotency_key=by_text, on_uncertain=ask)
    def handler(event: Note) -> None:
        ran.append(event.text)

    receipt = bench.logs.publish(note("a"))
    set_key(bench, client, "asked", "a", f"r {receipt.entry_id} feedbeef")
    bench.start()
    bench.settled("asked")
    assert ran == []
    assert len(asked) == 3
    assert {run_of_entry(one) for one in asked} == {receipt.entry_id.encode()}
    assert keys_of(bench, client, "asked") == {b"a": b"d"}
    assert list(bench.broker.dead_letters("asked")) == []


def test_asking_that_fails_for_good_leaves_a_letter_that_asks_again(
    bench: Bench, client: redis.Redis
) -> None:
    ran: list[str] = []
    asked: list[int] = []

    def ask(event: Note) -> bool:
        asked.append(1)
        if len(asked) <= 2:
            raise ConnectionError("the venue does not answer")
        return True

    @bench.on(Note, name="asked", start="earliest", idempotency_key=by_text, on_uncertain=ask,
              max_retries=1)  # fmt: skip
    def handler(event: Note) -> None:
        ran.append(event.text)

    receipt = bench.logs.publish(note("a"))
    set_key(bench, client, "asked", "a", f"r {receipt.entry_id} feedbeef")
    bench.start()
    bench.settled("asked")
    assert keys_of(bench, client, "asked") == {b"a": f"u {receipt.entry_id}".encode()}
    (letter,) = bench.broker.dead_letters("asked")
    assert letter.cause == "failed"
    bench.broker.requeue_dead_letters("asked", DeadLetterFilter())
    bench.settled("asked")
    assert (ran, len(asked)) == ([], 3)


@pytest.mark.parametrize("answer", [None, "done", 1, {"a": 1}, [1]])
def test_an_answer_that_is_none_is_named(bench: Bench, client: redis.Redis, answer: Any) -> None:
    @bench.on(Note, name="odd", start="earliest", idempotency_key=by_text, max_retries=0,
              on_uncertain=lambda event: answer)  # fmt: skip
    def odd(event: Note) -> None: ...

    receipt = bench.logs.publish(note("a"))
    set_key(bench, client, "odd", "a", f"r {receipt.entry_id} feedbeef")
    bench.start()
    bench.settled("odd")
    (letter,) = bench.broker.dead_letters("odd")
    assert letter.error.startswith("HandlerError: Handler 'odd'")
    assert (
        repr(answer if not isinstance(answer, list | dict) else next(iter(answer))) in letter.error
    )


@pytest.mark.parametrize("bad", [7, b"k", "x" * 513, "\ud800", ["k"]])
def test_a_key_that_is_none_fails_the_delivery_and_is_named(bench: Bench, bad: Any) -> None:
    ran: list[str] = []

    @bench.on(Note, name="bad", idempotency_key=lambda event: bad, max_retries=1)
    def handler(event: Note) -> None:
        ran.append(event.text)

    bench.start()
    bench.logs.publish(note("a"))
    bench.settled("bad")
    (letter,) = bench.broker.dead_letters("bad")
    assert letter.cause == "failed"
    assert letter.attempts == 2
    assert letter.error.startswith("HandlerError: Handler 'bad': idempotency_key returned")
    assert ran == []


def test_a_key_function_that_raises_fails_the_delivery(bench: Bench) -> None:
    @bench.on(Note, name="raises", idempotency_key=lambda event: event.nothing, max_retries=0)
    def handler(event: Note) -> None: ...

    bench.start()
    bench.logs.publish(note("a"))
    bench.settled("raises")
    (letter,) = bench.broker.dead_letters("raises")
    assert letter.error.startswith("AttributeError")


def test_who_does_not_know_says_so_and_it_stays_uncertain(bench: Bench) -> None:
    """A call that timed out: dead-lettered at the next delivery, not repeated."""
    ran: list[str] = []

    @bench.on(Note, name="unsure", idempotency_key=by_text, on_uncertain="dead_letter")
    def unsure(event: Note) -> None:
        ran.append(event.text)
        raise UncertainOutcome("no answer")

    bench.start()
    bench.logs.publish(note("a"))
    bench.settled("unsure")
    assert ran == ["a"]
    assert [one.cause for one in bench.broker.dead_letters("unsure")] == ["uncertain"]


def test_what_the_time_limit_interrupts_is_uncertain(bench: Bench) -> None:
    """It may have been interrupted anywhere, also behind its effect."""
    ran: list[str] = []

    @bench.on(Note, name="slow", idempotency_key=by_text, on_uncertain="dead_letter")
    def slow(event: Note) -> None:
        ran.append(event.text)
        raise TimeLimitExceeded  # as the middleware does, from another thread

    bench.start()
    bench.logs.publish(note("a"))
    bench.settled("slow")
    assert ran == ["a"]
    assert [one.cause for one in bench.broker.dead_letters("slow")] == ["uncertain"]


def test_a_handler_that_ran_and_could_not_be_committed_is_uncertain_not_done(
    bench: Bench, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its emits would be lost: the next delivery would find the key done."""
    monkeypatch.setattr("streamatiq.broker.committer.RETRY_MS", 20)
    echo = bench.keys.log("test.echo", "0")
    ran: list[str] = []
    asked: list[str] = []

    def ask(event: Note) -> Echo:
        asked.append(event.text)
        client.delete(echo.entries)
        return Echo(ts_event=2, text="told")

    @bench.on(Note, name="refused", idempotency_key=by_text, on_uncertain=ask)
    def refused(event: Note) -> Echo:
        ran.append(event.text)
        return Echo(ts_event=2, text="ran")

    client.set(echo.entries, "somebody else's")
    bench.start()
    bench.logs.publish(note("a"))
    bench.settled("refused")
    assert (ran, asked) == (["a"], ["a"])
    assert bench.echoes(1) == ["told"]
    assert keys_of(bench, client, "refused") == {b"a": b"d"}


def test_a_lost_reply_of_the_reservation_changes_nothing(
    open_bench: Callable[..., Bench], proxy: CuttingProxy, client: redis.Redis
) -> None:
    bench = open_bench(proxy.url)
    ran: list[str] = []

    @bench.on(Note, name="cut", idempotency_key=by_text, on_uncertain="dead_letter")
    def cut(event: Note) -> None:
        ran.append(event.text)

    bench.start(threads=1)
    bench.logs.publish(note("warm"))
    bench.settled("cut")
    proxy.cut_reply(b"feed the key")
    other = open_bench()
    other.logs.publish(note("feed the key"))
    wait_until(lambda: len(ran) == 2)
    bench.settled("cut")
    assert ran == ["warm", "feed the key"]
    assert list(bench.broker.dead_letters("cut")) == []


def test_without_the_server_the_handler_does_not_run_and_no_attempt_is_burnt(
    open_bench: Callable[..., Bench], proxy: CuttingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamatiq.workers.idempotency.UNREACHED_MS", 20)
    bench = open_bench(proxy.url, redis={"retry_delay": 0.01, "max_retries": 0})
    attempts: list[int] = []

    @bench.on(Note, name="cut", idempotency_key=by_text, on_uncertain="dead_letter")
    def cut(event: Note) -> None:
        delivery = current_delivery.get()
        assert delivery is not None
        attempts.append(delivery.attempt)

    bench.start(threads=1)
    bench.logs.publish(note("warm"))
    bench.settled("cut")
    proxy.cut_reply(b"cut this")
    other = open_bench()
    other.logs.publish(note("cut this"))
    wait_until(lambda: len(attempts) == 2)
    bench.settled("cut")
    assert attempts == [1, 1]
    assert list(bench.broker.dead_letters("cut")) == []


def test_who_can_ask_asks_also_after_a_reply_was_lost_for_good(
    open_bench: Callable[..., Bench],
    proxy: CuttingProxy,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lost call has taken the key over; parking the delivery must not make it free."""
    monkeypatch.setattr("streamatiq.workers.idempotency.UNREACHED_MS", 20)
    bench = open_bench(proxy.url, redis={"retry_delay": 0.01, "max_retries": 0})
    ran: list[str] = []
    asked: list[str] = []

    def ask(event: Note) -> bool:
        asked.append(event.text)
        return True

    @bench.on(Note, name="cut", idempotency_key=by_text, on_uncertain=ask)
    def cut(event: Note) -> None:
        ran.append(event.text)

    bench.start(threads=1)
    bench.logs.publish(note("warm"))
    bench.settled("cut")
    set_key(bench, client, "cut", "cut this", "r 1-1 gone")
    proxy.cut_reply(b"cut this")
    open_bench().logs.publish(note("cut this"))
    wait_until(lambda: asked)
    bench.settled("cut")
    assert proxy.cuts == 1
    assert (ran, asked) == (["warm"], ["cut this"])


class _Fences(Middleware):
    """Declares the process dead that is about to run its first delivery."""

    def __init__(self) -> None:
        self.fenced: list[str] = []

    def before_delivery(self, broker: Any, delivery: Any) -> None:
        if not self.fenced:
            self.fenced.append(delivery.consumer)
            broker.fence(delivery.queue_name, delivery.consumer)


def test_a_fenced_process_does_not_run_the_handler(open_bench: Callable[..., Bench]) -> None:
    fences = _Fences()
    bench = open_bench(middleware=[fences])
    ran: list[str] = []

    @bench.on(Note, name="fenced", idempotency_key=by_text, on_uncertain="dead_letter")
    def fenced(event: Note) -> None:
        delivery = current_delivery.get()
        assert delivery is not None
        ran.append(delivery.consumer)

    bench.start(threads=1)
    bench.logs.publish(note("a"))
    bench.settled("fenced", timeout_s=20)
    assert len(ran) == 1
    assert ran != fences.fenced
    assert list(bench.broker.dead_letters("fenced")) == []


class _FollowUp(Middleware):
    """Enqueues what cannot be enqueued, as a pipeline to a wrong lane would."""

    def after_process_message(self, broker: Any, message: Any, **_: Any) -> None:
        broker.enqueue(
            Message(queue_name="q", actor_name="x", args=(), kwargs={}, options={"priority": "?"})
        )


def test_a_handler_that_ran_without_its_follow_up_is_uncertain(
    open_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamatiq.broker.consumer.UNDECIDED_MS", 20)
    bench = open_bench(middleware=[_FollowUp()])
    bench.broker.declare_queue("q")
    ran: list[str] = []

    @bench.on(Note, name="followed", idempotency_key=by_text, on_uncertain="dead_letter")
    def followed(event: Note) -> None:
        ran.append(event.text)

    bench.start()
    bench.logs.publish(note("a"))
    bench.settled("followed")
    assert ran == ["a"]
    assert [one.cause for one in bench.broker.dead_letters("followed")] == ["uncertain"]


def test_a_key_is_a_stream_s(bench: Bench) -> None:
    """Said in the docs: events of the same key must share their partition key, or lane."""
    ran: list[str] = []

    @bench.on(Urgent, name="lanes", idempotency_key=by_text)
    def lanes(event: Urgent) -> None:
        ran.append(event.priority)

    bench.start()
    bench.logs.publish_many(
        [Urgent(ts_event=1, text="a", priority=lane) for lane in ("high", "low", "high")]  # type: ignore[arg-type]  # pydantic takes the text
    )
    bench.settled("lanes")
    assert sorted(ran) == ["high", "low"]


def test_async_handlers_and_async_questions(bench: Bench, client: redis.Redis) -> None:
    asked: list[str] = []

    async def ask(event: Note) -> bool:
        asked.append(event.text)
        return event.text == "b"

    @bench.on(Note, name="async", start="earliest", idempotency_key=by_text, on_uncertain=ask)
    async def handler(event: Note) -> Echo:
        return Echo(ts_event=2, text=event.text)

    for text in "ab":
        receipt = bench.logs.publish(note(text))
        set_key(bench, client, "async", text, f"r {receipt.entry_id} feedbeef")
    bench.start()
    bench.settled("async")
    assert sorted(asked) == ["a", "b"]
    assert bench.echoes(1) == ["a"]
