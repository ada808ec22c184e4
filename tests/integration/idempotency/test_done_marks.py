"""Done marks, looked up where a duplicate is possible."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import redis
from tests.integration.logs.harness import Bench, Note, note
from tests.support import wait_until

from streamatiq.broker.claimed import Claimed
from streamatiq.broker.connections import Endpoint, Link
from streamatiq.broker.done_marks import marked_done
from streamatiq.broker.settlements import DUPLICATE


def _keys(bench: Bench, name: str) -> Any:
    return bench.keys.log("test.note", "0").subscription(name)


def test_an_event_that_is_delivered_again_and_done_is_not_run(
    bench: Bench, client: redis.Redis
) -> None:
    runs: list[str] = []

    @bench.on(Note, name="again", start="earliest")
    def again(event: Note) -> None:
        runs.append(event.text)

    bench.broker._links.call(lambda link: link.send(
        "XGROUP", "CREATE", _keys(bench, "again").entries, "again", "0", "MKSTREAM"))  # fmt: skip
    known, other = note("known"), note("other")
    receipts = bench.logs.publish_many([known, other])
    keys = _keys(bench, "again")
    client.xreadgroup("again", "h:1:gone", {keys.entries: ">"})
    for receipt in receipts:  # handed back, as the reclaimer does
        client.xclaim(keys.entries, "again", "__free__", 0, [receipt.entry_id], justid=True)
        client.zadd(keys.parked, {receipt.entry_id: 1})
    client.hset(keys.done, known.id.bytes, 1)
    bench.start()
    bench.settled("again")
    assert runs == ["other"]
    records = bench.audit(client, Note, "again")
    assert sum(one.get("duplicate", 0) for one in records) == 1
    assert sum(one.get("done", 0) for one in records) == 1


def test_an_old_mark_counts_too(bench: Bench, client: redis.Redis) -> None:
    event = note("a")
    bench.logs.publish(event)
    keys = _keys(bench, "s")
    client.hset(keys.done_old, event.id.bytes, 1)

    @bench.on(Note, name="s", start="earliest")
    def handler(event: Note) -> None: ...

    (source,) = bench.broker._sources("s")
    entry_id, fields = client.xrange(keys.entries)[0]  # type: ignore[index]  # redis-py's own
    claimed = Claimed(source, "me", entry_id, [part for p in fields.items() for part in p], None, 0)
    with closing(Link(Endpoint(bench.broker.endpoint.url))) as link:
        known = claimed._replace(ending=DUPLICATE)
        assert marked_done(link, [claimed], {entry_id}, 300_000) == [known]
        assert marked_done(link, [claimed], set(), 300_000) == [claimed]
        undecodable = claimed._replace(fields=[b"d", b"{"])
        assert marked_done(link, [undecodable], {entry_id}, 300_000) == [undecodable]


def test_where_marks_outlive_publishing_s_memory_every_event_is_looked_up(
    open_bench: Callable[..., Bench], client: redis.Redis
) -> None:
    """The same event, published again after the window: stored, but not handled again."""
    bench = open_bench(event_bus={"idempotency_window": 0.05})
    runs: dict[str, list[str]] = {"short": [], "long": [], "ever": []}

    def declare(name: str, **options: Any) -> None:
        @bench.on(Note, name=name, **options)
        def handler(event: Note) -> None:
            runs[name].append(event.text)

    declare("short")
    declare("long", idempotency_ttl_s=60)
    declare("ever", idempotency_ttl_s=None)
    bench.start(threads=3)
    event = note("a")
    bench.logs.publish(event)
    bench.settled("short", "long", "ever")
    wait_until(lambda: not bench.logs.publish(event).duplicate)
    bench.settled("short", "long", "ever")
    wait_until(lambda: runs == {"short": ["a", "a"], "long": ["a"], "ever": ["a"]})
    assert client.pttl(_keys(bench, "ever").done) == -1
    assert 60_000 < client.pttl(_keys(bench, "long").done) <= 120_000  # type: ignore[operator]
    records = bench.audit(client, Note, "ever")
    assert sum(one.get("duplicate", 0) for one in records) == 1


def test_a_retry_is_looked_up_and_runs(bench: Bench) -> None:
    runs: list[str] = []

    @bench.on(Note, name="retried")
    def retried(event: Note) -> None:
        runs.append(event.text)
        if len(runs) < 3:
            raise RuntimeError("again")

    bench.start()
    bench.logs.publish(note("a"))
    bench.settled("retried")
    assert runs == ["a", "a", "a"]
