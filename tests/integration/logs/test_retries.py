"""Failures of a subscription's entries: retried in their place, or dead-lettered with a cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.middleware import CurrentMessage
from tests.integration.logs.harness import Bench, Echo, Note, Vault, note, texts
from tests.support import wait_until

from streamatiq import emit
from streamatiq.broker import Delivery, current_delivery


def _keys(bench: Bench, name: str) -> Any:
    return bench.keys.log("test.note", "0").subscription(name)


def _delivery() -> Delivery:
    delivery = current_delivery.get()
    assert delivery is not None
    return delivery


def test_a_retry_is_the_same_entry_in_its_place(bench: Bench, client: redis.Redis) -> None:
    runs: list[tuple[str, bytes, int]] = []

    @bench.on(Note, name="retries", max_retries=5)
    def retries(event: Note) -> None:
        delivery = _delivery()
        runs.append((event.text, delivery.entry_id, delivery.attempt))
        if event.text == "bad" and delivery.attempt < 4:
            raise RuntimeError("again")

    bench.start(threads=1)
    bench.logs.publish_many([note("a"), note("bad"), note("b"), note("c")])
    wait_until(lambda: len(runs) >= 7)
    bench.settled("retries")
    log = {entry.event.text: entry.entry_id.encode() for entry in bench.read(Note)}
    assert [run[1:] for run in runs if run[0] == "bad"] == [(log["bad"], n) for n in (1, 2, 3, 4)]
    others = [run for run in runs if run[0] != "bad"]
    assert others == [("a", log["a"], 1), ("b", log["b"], 1), ("c", log["c"], 1)]
    assert client.exists(_keys(bench, "retries").options, _keys(bench, "retries").parked) == 0


def test_a_parked_entry_stays_pending_and_others_go_on(bench: Bench, client: redis.Redis) -> None:
    seen: list[str] = []

    @bench.on(Note, name="parks", min_backoff=60_000, max_backoff=60_000)
    def parks(event: Note) -> None:
        if event.text == "bad":
            raise RuntimeError("much later")
        seen.append(event.text)

    bench.start()
    bench.logs.publish_many([note("bad"), *(note(n) for n in range(20))])
    keys = _keys(bench, "parks")
    wait_until(lambda: len(seen) == 20 and client.zcard(keys.parked) == 1)
    bad = bench.read(Note)[0].entry_id.encode()
    assert client.zrange(keys.parked, 0, -1) == [bad]
    pending: Any = wait_until(
        lambda: len(p := client.xpending_range(keys.entries, "parks", "-", "+", 100)) == 1 and p
    )
    assert pending[0]["message_id"] == bad
    assert b'"retries":1' in client.hget(keys.options, bad)  # type: ignore[operator]


def test_out_of_retries_an_event_is_a_dead_letter_with_its_bytes_and_cause(
    bench: Bench, client: redis.Redis
) -> None:
    @bench.on(Note, name="dies", max_retries=2)
    def dies(event: Note) -> None:
        raise ValueError(f"cannot bear {event.text}")

    bench.start()
    bench.logs.publish(note("this"))
    bench.settled("dies")
    (letter,) = bench.broker.dead_letters("dies")
    (entry,) = bench.read(Note)
    raw: Any = client.xrange(_keys(bench, "dies").entries)
    assert letter.data == raw[0][1][b"d"]
    assert (letter.source, letter.entry_id) == ("log:test.note:0", entry.entry_id)
    assert (letter.cause, letter.error) == ("failed", "ValueError: cannot bear this")
    assert "in dies" in letter.traceback
    assert letter.attempts == 3
    assert letter.consumer.count(":") == 2
    assert client.exists(_keys(bench, "dies").options) == 0


def test_what_an_actor_throws_on_purpose_counts_its_runs_rightly(bench: Bench) -> None:
    @bench.on(Note, name="throws", throws=KeyError)
    def throws(event: Note) -> None:
        if _delivery().attempt == 1:
            raise RuntimeError("a retry first")
        raise KeyError("given up")

    bench.start()
    bench.logs.publish(note(""))
    bench.settled("throws")
    (letter,) = bench.broker.dead_letters("throws")
    assert letter.error == "KeyError: 'given up'"
    assert letter.attempts == 2


@pytest.mark.parametrize(
    "raw", [b"", b"\xff\xfe{", b"[]", b"null", b'{"type":"test.note"}', b"[" * 5000, b'{"v":2}']
)
def test_an_undecodable_entry_is_a_dead_letter_and_the_worker_goes_on(
    bench: Bench, client: redis.Redis, raw: bytes
) -> None:
    seen: list[str] = []
    bench.on(Note, name="decodes")(lambda event: seen.append(event.text))
    bench.start()
    key = _keys(bench, "decodes").entries
    entry_id: Any = client.xadd(key, {b"d": raw, b"a": b"1"})
    foreign: Any = client.xadd(key, {b"not": b"ours"})
    bench.logs.publish(note("good"))
    wait_until(lambda: seen == ["good"])
    bench.settled("decodes")
    letters = list(bench.broker.dead_letters("decodes"))
    assert [one.cause for one in letters] == ["undecodable", "undecodable"]
    assert letters[0].data == raw
    assert b"ours" in letters[1].data  # an entry without our field is kept as a whole
    assert [one.entry_id.encode() for one in letters] == [entry_id, foreign]
    assert all(one.error for one in letters)


def test_an_event_of_another_schema_version_is_a_dead_letter_that_says_so(
    bench: Bench, client: redis.Redis
) -> None:
    bench.on(Note, name="versions")(lambda event: None)
    bench.start()
    bench.logs.publish(note("good"))
    bench.settled("versions")
    raw: Any = client.xrange(_keys(bench, "versions").entries)
    newer = raw[0][1][b"d"].replace(b'"v":1', b'"v":7')
    client.xadd(_keys(bench, "versions").entries, {b"d": newer})
    bench.settled("versions")
    (letter,) = bench.broker.dead_letters("versions")
    assert letter.data == newer
    assert "schema version v=7" in letter.error


def test_an_emit_to_a_key_of_another_type_keeps_its_cause_pending(
    bench: Bench, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamatiq.broker.committer.RETRY_MS", 600)
    target = bench.keys.log("test.echo", "0").entries
    client.set(target, "somebody else's")

    @bench.on(Note, name="emits")
    def emits(event: Note) -> Echo | None:
        return Echo(ts_event=2, text=event.text) if event.text == "emits" else None

    bench.start()
    bench.logs.publish_many([note("emits"), *(note(n) for n in range(10))])
    keys = _keys(bench, "emits")
    wait_until(lambda: client.zcard(keys.parked) == 1)
    pending: Any = wait_until(
        lambda: len(p := client.xpending_range(keys.entries, "emits", "-", "+", 100)) == 1 and p
    )
    assert pending[0]["message_id"].decode() == bench.read(Note)[0].entry_id
    client.delete(target)
    assert bench.echoes(1) == ["emits"]
    bench.settled("emits")
    assert bench.echoes(1) == ["emits"]


def test_emits_of_one_delivery_are_committed_together_or_not_at_all(
    bench: Bench, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event whose cause is not settled must not be seen: other subscriptions would act on it."""
    monkeypatch.setattr("streamatiq.broker.committer.RETRY_MS", 600)
    target = bench.keys.log("test.vault", "0").entries
    client.set(target, "somebody else's")

    @bench.on(Note, name="emits_two")
    def emits_two(event: Note) -> list[Any]:
        return [Echo(ts_event=2, text="first"), Vault(ts_event=2, text="second")]

    bench.start()
    bench.logs.publish(note(""))
    keys = _keys(bench, "emits_two")
    wait_until(lambda: client.zcard(keys.parked) == 1)
    assert bench.read(Echo) == []
    client.delete(target)
    assert bench.echoes(1, Vault) == ["second"]
    assert bench.echoes(1) == ["first"]


def test_a_message_that_follows_is_not_doubled_by_the_failure_of_a_neighbour(
    bench: Bench, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole batch refused by the server (here: a dedupe key of a wrong type) is taken apart."""
    monkeypatch.setattr("streamatiq.broker.committer.RETRY_MS", 60_000)
    client.set(bench.keys.log("test.echo", "0").ids, "somebody else's")
    told: list[Any] = []

    @dramatiq.actor(broker=bench.broker)
    def tell(message: Any, result: Any) -> None:
        told.append(message["message_id"])

    @bench.on(Note, name="follows", on_success="tell")
    def follows(event: Note) -> Echo | None:
        return Echo(ts_event=2) if event.text == "emits" else None

    bench.start()
    notes = [note("emits" if n % 7 == 3 else n) for n in range(60)]
    bench.logs.publish_many(notes)
    fine = sorted(str(one.id) for one in notes if one.text != "emits")
    wait_until(lambda: len(told) >= len(fine))
    bench.settled("default")
    assert sorted(told) == fine


def test_a_delivery_that_no_middleware_decides_stays_pending(
    open_bench: Callable[..., Bench], client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamatiq.broker.consumer.UNDECIDED_MS", 50)
    bench = open_bench()
    runs: list[int] = []

    def broken(retries: int, error: BaseException) -> bool:
        raise LookupError("a retry_when that raises")

    @bench.on(Note, name="undecided", retry_when=broken)
    def undecided(event: Note) -> None:
        runs.append(1)
        if len(runs) < 3:
            raise RuntimeError("fails")

    bench.start()
    bench.logs.publish(note(""))
    wait_until(lambda: len(runs) >= 3)
    bench.settled("undecided")
    assert len(runs) == 3
    assert list(bench.broker.dead_letters("undecided")) == []


def test_a_handled_entry_that_comes_again_does_not_emit_again(
    bench: Bench, client: redis.Redis
) -> None:
    runs: list[str] = []

    @bench.on(Note, name="again")
    def again(event: Note) -> Echo:
        runs.append(event.text)
        return Echo(ts_event=2, text=event.text)

    bench.start()
    bench.logs.publish_many([note(n) for n in range(5)])
    bench.echoes(5)
    bench.settled("again")
    echo = bench.keys.log("test.echo", "0")
    # Without the publish ids of the target, only the done marks stand against a second emit.
    client.delete(echo.ids, echo.ids_old)
    client.xgroup_setid(_keys(bench, "again").entries, "again", "0")
    bench.logs.publish(note(5))  # a blocked reader does not wake for the new position
    wait_until(lambda: len(runs) >= 11)
    bench.settled("again")
    assert sorted(texts(bench.logs.read(Echo))) == [str(n) for n in range(6)]


def test_current_message_in_a_handler_of_events(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench(middleware=[CurrentMessage()])
    seen: list[tuple[str, str]] = []

    @bench.on(Note, name="current")
    def current(event: Note) -> None:
        message = CurrentMessage.get_current_message()
        assert message is not None
        seen.append((message.queue_name, message.message_id))
        emit()

    bench.start()
    sent = note("")
    bench.logs.publish(sent)
    wait_until(lambda: seen)
    bench.settled("current")
    assert seen == [("current", str(sent.id))]
