"""The settle script by itself: every kind of ending in one batch, put on the wire and read back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from tests.integration.logs.harness import Note, Spread

from streamatiq import Lane
from streamatiq.broker.connections import Endpoint, Link
from streamatiq.broker.keys import Keys
from streamatiq.broker.settlements import (
    DONE,
    HAND_BACK,
    RETRIED,
    BatchOutcome,
    DeadLetter,
    Emit,
    Enqueue,
    Park,
    Settlement,
    settle,
)
from streamatiq.broker.sources import AuditLevel, Source
from streamatiq.broker.subscriptions import Subscription
from streamatiq.broker.work_queues import WorkQueue

ME = "h:1:t"
WINDOW_MS = 60_000


class Streams:
    """A log's stream, a work queue's lane and a second partition, with entries claimed by `ME`."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.log: Source = Subscription("s", (Note,), "new").sources(keys, {}, AuditLevel.FULL)[0]
        self.other: Source = Subscription("s", (Spread,), "new").sources(keys, {}, AuditLevel.OFF)[
            1
        ]
        self.work = WorkQueue(keys, "q")
        self.queue: Source = self.work.sources[1]
        for source in (self.log, self.other, self.queue):
            client.xgroup_create(source.keys.entries, source.group, "0", mkstream=True)

    def claim(self, source: Source) -> bytes:
        added: Any = self.client.xadd(source.keys.entries, {"d": "x"})
        self.client.xreadgroup(source.group, ME, {source.keys.entries: ">"})
        return bytes(added)

    def pending(self, source: Source, consumer: str | None = None) -> list[bytes]:
        found: Any = self.client.xpending_range(
            source.keys.entries, source.group, "-", "+", 100, consumer
        )
        return [one["message_id"] for one in found]


@pytest.fixture
def streams(client: redis.Redis, namespace: str) -> Streams:
    return Streams(client, Keys(namespace))


@pytest.fixture
def link(redis_url: str) -> Iterator[Link]:
    made = Link(Endpoint(redis_url))
    yield made
    made.close()


def _of(source: Source, entry_id: bytes, action: Any = DONE, **more: Any) -> Settlement:
    event_id = uuid4().bytes if source.is_log else b""
    return Settlement(source, ME, entry_id, more.pop("event_id", event_id), action, **more)


def _run(link: Link, number: int, *batch: Settlement) -> BatchOutcome:
    return link.run(settle("writer", number, WINDOW_MS, batch))


def test_every_ending_of_three_streams_in_one_batch(streams: Streams, link: Link) -> None:
    client, log, other, queue = streams.client, streams.log, streams.other, streams.queue
    plain, emits, parked, back, dead, cleared = (streams.claim(log) for _ in range(6))
    elsewhere = streams.claim(other)
    message, retried = streams.claim(queue), streams.claim(queue)
    client.hset(log.keys.options, cleared, "{}")
    echo = streams.keys.log("test.echo", "0")
    target = streams.work.targets[Lane.HIGH]
    later = Enqueue(target, 60_000, target.member("later"), b"later")
    events = [uuid4().bytes for _ in range(2)]
    outcome = _run(
        link,
        1,
        _of(log, plain),
        _of(queue, message),
        _of(log, emits, emits=[Emit(echo, one, b"event") for one in events]),
        _of(log, parked, Park(60_000, b'{"retries":1}')),
        _of(other, elsewhere),
        _of(log, back, HAND_BACK),
        _of(log, dead, DeadLetter(["cause", "failed", "data", b"\x00\xff"])),
        _of(queue, retried, RETRIED, messages=[later, Enqueue(target, -1, "", b"now")]),
        _of(log, cleared, has_options=True),
    )
    assert outcome == BatchOutcome()
    assert streams.pending(log) == [parked, back]
    assert streams.pending(log, ME) == []
    assert dict(client.zrange(log.keys.parked, 0, -1, withscores=True)).keys() == {parked, back}
    assert client.hgetall(log.keys.options) == {parked: b'{"retries":1}'}
    assert client.hlen(log.keys.done) == 4
    assert client.xlen(log.keys.entries) == 6
    (letter,) = client.xrange(log.keys.dead)  # type: ignore[misc]
    assert letter[1] == {b"cause": b"failed", b"data": b"\x00\xff"}
    appended: Any = client.xrange(echo.entries)
    assert [fields[b"d"] for _, fields in appended] == [b"event", b"event"]
    assert client.hgetall(echo.ids) == dict(
        zip(events, [entry for entry, _ in appended], strict=True)
    )
    assert streams.pending(other) == streams.pending(queue) == []
    assert client.xlen(queue.keys.entries) == 0  # settled messages are deleted
    assert client.zrange(target.delayed, 0, -1) == [later.member.encode()]
    assert client.hgetall(target.delayed_messages) == {later.member.encode(): b"later"}
    (now,) = client.xrange(target.entries)  # type: ignore[misc]
    assert now[1][b"m"] == b"now"
    assert client.xlen(log.keys.audit) == 1
    assert client.exists(other.keys.audit) == 0


def test_a_batch_sent_again_under_its_number_does_nothing(streams: Streams, link: Link) -> None:
    echo = streams.keys.log("test.echo", "0")
    gone = _of(streams.log, b"1-1")
    first = _of(streams.log, streams.claim(streams.log), emits=[Emit(echo, uuid4().bytes, b"e")])
    outcome = _run(link, 1, first, gone)
    assert [one.text for one in outcome.problems] == ["GONE"]
    streams.client.delete(echo.ids)  # so that only the number stands against a second emit
    streams.client.delete(streams.log.keys.done)
    again = _run(link, 1, first, gone)
    assert again == outcome
    assert streams.client.xlen(echo.entries) == 1
    assert streams.client.xlen(streams.log.keys.audit) == 1


def test_a_fenced_consumer_settles_nothing_and_others_do(streams: Streams, link: Link) -> None:
    log, queue = streams.log, streams.queue
    mine, message = streams.claim(log), streams.claim(queue)
    parked, anothers = streams.claim(log), _of(queue, streams.claim(queue))
    anothers.consumer = "h:2:t"
    streams.client.set(log.keys.fence(ME), 1)
    outcome = _run(
        link,
        1,
        _of(log, mine, emits=[Emit(streams.keys.log("test.echo", "0"), uuid4().bytes, b"e")]),
        _of(log, parked, Park(1, b"{}")),
        _of(log, parked, DeadLetter(["a", "b"])),
        _of(queue, message),
        anothers,
    )
    # For one of its streams means for all.
    assert outcome.fenced == [(log, ME), (queue, ME)]
    assert outcome.problems == []
    assert streams.pending(log) == [mine, parked]
    assert streams.pending(queue) == [message]
    for key in (log.keys.done, log.keys.parked, log.keys.dead, log.keys.audit):
        assert streams.client.exists(key) == 0
    assert streams.client.exists(streams.keys.log("test.echo", "0").entries) == 0


def test_an_event_that_was_done_before_causes_nothing(streams: Streams, link: Link) -> None:
    log, echo = streams.log, streams.keys.log("test.echo", "0")
    event_id = uuid4().bytes
    _run(link, 1, _of(log, streams.claim(log), event_id=event_id))
    second = streams.claim(log)
    outcome = _run(
        link,
        2,
        _of(log, second, event_id=event_id, emits=[Emit(echo, uuid4().bytes, b"e")]),
    )
    assert [(one.source, one.entry_id, one.text) for one in outcome.problems] == [
        (log, second, "DUPLICATE")
    ]
    assert streams.pending(log) == []
    assert streams.client.exists(echo.entries) == 0


@pytest.mark.parametrize("name", ["parked", "options", "done", "dead", "audit", "suspects"])
def test_a_key_of_another_type_stops_its_group_only(
    streams: Streams, link: Link, name: str
) -> None:
    log, queue = streams.log, streams.queue
    one, two, message = streams.claim(log), streams.claim(log), streams.claim(queue)
    streams.client.set(getattr(log.keys, name), "somebody else's")
    outcome = _run(link, 1, _of(log, one), _of(log, two, Park(1, b"{}")), _of(queue, message))
    assert [(found.source, found.entry_id) for found in outcome.problems] == [
        (log, one),
        (log, two),
    ]
    assert all("WRONGTYPE" in found.text for found in outcome.problems)
    assert streams.pending(log, ME) == [one, two]
    assert streams.pending(queue) == []


def test_a_target_of_another_type_stops_its_entry_only(streams: Streams, link: Link) -> None:
    log, vault = streams.log, streams.keys.log("test.vault", "0")
    streams.client.set(vault.entries, "somebody else's")
    good, bad = streams.claim(log), streams.claim(log)
    outcome = _run(link, 1, _of(log, good), _of(log, bad, emits=[Emit(vault, uuid4().bytes, b"e")]))
    ((source, entry_id, text),) = outcome.problems
    assert (source, entry_id) == (log, bad)
    assert vault.entries in text
    assert streams.pending(log) == [bad]


def test_an_entry_that_was_not_settled_keeps_its_retry_state(streams: Streams, link: Link) -> None:
    """It is delivered again, and must know how often it was tried."""
    log = streams.log
    refused, settled = streams.claim(log), streams.claim(log)
    for entry in (refused, settled):
        streams.client.hset(log.keys.options, entry, '{"retries":3}')
    target = streams.keys.log("test.elsewhere", "0")
    streams.client.set(target.entries, "somebody else's")
    emits = [Emit(target, uuid4().bytes, b"{}")]
    batch = [
        Settlement(log, ME, refused, uuid4().bytes, DONE, emits, has_options=True),
        Settlement(log, ME, settled, uuid4().bytes, DONE, has_options=True),
    ]
    outcome = link.run(settle("w", 1, WINDOW_MS, batch))
    assert [found.entry_id for found in outcome.problems] == [refused]
    assert streams.client.hgetall(log.keys.options) == {refused: b'{"retries":3}'}
