"""Retention: what goes, and what never does."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.logs.harness import Bench, Note, note
from tests.support import wait_until

from streamatiq import Event, Partitioned, RedisStreamsBroker, Settings
from streamatiq.broker.connections import LinkPool
from streamatiq.broker.embedded import EmbeddedServer
from streamatiq.errors import CommandFailed
from streamatiq.scheduler import retention
from streamatiq.scheduler.checkpoints import Checkpoints, PrunePolicy
from streamatiq.scheduler.exclusive import turn
from streamatiq.scheduler.retention import Retention
from streamatiq.scheduler.retention_pins import pin, pins, unpin
from streamatiq.testing import TestBroker
from streamatiq.workers import on

OpenBench = Callable[..., Bench]
_numbers = itertools.count(1)


class Two(Event, type="test.two", log=Partitioned(2)):
    """An event of a log of two streams."""


@pytest.fixture(scope="module")
def exact_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose blocks hold one entry: what may go, goes."""
    with EmbeddedServer.ensure(tmp_path_factory.mktemp("exact"), port=0) as server:
        with redis.Redis.from_url(server.url) as client:
            client.config_set("stream-node-max-entries", 1)
        yield server.url


def a_broker(url: str, **options: Any) -> RedisStreamsBroker:
    return RedisStreamsBroker(
        url,
        namespace=f"retain{next(_numbers)}",
        settings=Settings.model_validate(options),
        middleware=[],
    )


GROUP = st.tuples(
    st.integers(0, 20),  # how many it has read
    st.lists(st.integers(0, 19), max_size=4),  # which of these it has not settled
)


@settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    count=st.integers(0, 20),
    aim=st.integers(1, 25),
    groups=st.lists(GROUP, max_size=4),
    pinned=st.none() | st.integers(0, 19),
    then=st.booleans(),
)
def test_what_somebody_needs_stays_and_the_rest_goes(
    exact_server: str,
    count: int,
    aim: int,
    groups: list[tuple[int, list[int]]],
    pinned: int | None,
    then: bool,
) -> None:
    broker = a_broker(exact_server, redis={"stream_max_length": aim})
    client = broker.client()
    try:
        ids = [one.entry_id for one in broker.logs.publish_many([note(n) for n in range(count)])]
        entries = broker.keys.log("test.note", "0").entries
        needed = {count}  # places of entries; what is behind the last one counts for nobody

        def has_read(name: str, read: int, unsettled: list[int]) -> None:
            read = min(read, count)
            if read:
                client.xreadgroup(name, "c", {entries: ">"}, count=read)
            held = {place for place in unsettled if place < read}
            done = [ids[place] for place in range(read) if place not in held]
            if done:
                client.xack(entries, name, *done)
            needed.add(min(held, default=read))

        broker.logs.check_layout(Note)
        for number, (read, unsettled) in enumerate(groups):
            client.xgroup_create(entries, f"g{number}", "0", mkstream=True)
            has_read(f"g{number}", read, unsettled)
        if then:
            # A checkpoint of now; then all go on, and it alone holds back.
            Checkpoints(broker).create("now")
            for number in range(len(groups)):
                client.xgroup_setid(entries, f"g{number}", "$")
                held: Any = client.xpending_range(entries, f"g{number}", "-", "+", 100)
                if held:
                    client.xack(entries, f"g{number}", *[one["message_id"] for one in held])
        if pinned is not None and pinned < count:
            pin(broker, "r", {"test.note:0": ids[pinned]})
            needed.add(pinned)
        gone = max(0, min(*needed, count - aim))

        shown = Retention(broker).show()
        assert client.xlen(entries) == count
        report = Retention(broker).run()
        left: Any = client.xrange(entries)
        assert [one[0].decode() for one in left] == ids[gone:]
        assert report.trimmed == gone
        if count:
            (stream,) = report.streams
            assert (stream.length, stream.surplus) == (count - gone, max(0, count - gone - aim))
            assert bool(stream.held_by) == (stream.surplus > 0)
            assert shown.streams[0].surplus == max(0, count - aim)
        assert Retention(broker).run().trimmed == 0
        assert all(Checkpoints(broker).verify(one.id).is_good for one in Checkpoints(broker).list())
    finally:
        for key in client.scan_iter(match=f"*{broker.keys.namespace}:*", count=1000):
            client.delete(key)
        client.close()
        broker.close()


def test_who_holds_back_is_named(exact_server: str) -> None:
    broker = a_broker(exact_server, redis={"stream_max_length": 2})
    client = broker.client()
    ids = [one.entry_id for one in broker.logs.publish_many([note(n) for n in range(10)])]
    entries = broker.keys.log("test.note", "0").entries
    client.xgroup_create(entries, "slow", ids[0])
    client.xgroup_create(entries, "fast", "$")
    assert Retention(broker).run(by="me").streams[0].held_by == "subscription slow"
    client.xgroup_setid(entries, "slow", ids[3])
    taken = Checkpoints(broker).create("slow is at 3")
    client.xgroup_setid(entries, "slow", "$")
    pin(broker, "seven", {"test.note:0": ids[2]})
    report = Retention(broker).run()
    assert (report.streams[0].held_by, report.streams[0].length) == ("replay seven", 8)
    assert pins(broker.logs.links, broker.keys) == {"seven": {"test.note:0": ids[2]}}
    unpin(broker, "seven")
    report = Retention(broker).run()
    assert report.streams[0].held_by == f"checkpoint {taken.id}"
    assert Checkpoints(broker).verify(taken.id).is_good
    assert str(report) == "2 entries trimmed"
    # A checkpoint that cannot be read holds nothing back, and is told of.
    client.hset(broker.keys.checkpoints.bodies, taken.id, "{")
    report = Retention(broker).run()
    assert report.streams[0].length == 2
    assert "cannot be read" in report.notes[0]
    audit: Any = client.xrange(broker.keys.checkpoints.audit)
    assert b'"by":"me","trimmed":{"test.note:0":1}' in audit[0][1][b"r"]
    client.hset(broker.keys.checkpoints.running, "bad", "{")
    with pytest.raises(CommandFailed, match="replay 'bad'"):
        Retention(broker).run()
    client.close()
    broker.close()


def test_a_subscription_that_nobody_reads(
    open_bench: OpenBench, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(bench: Bench) -> Bench:
        @bench.on(Note, name="left", start="earliest")
        def left(event: Note) -> None:
            if event.text == "fails":
                raise RuntimeError("fails")

        left.options["min_backoff"] = 3_600_000
        bench.start()
        return bench

    keeping = open_bench(redis={"stream_max_length": 1})
    worker = work(open_bench())
    keeping.logs.publish_many([note("a"), note("fails")])
    entries = keeping.logs.stream(Note, "0").entries
    wait_until(lambda: client.xpending(entries, "left")["pending"] == 1)
    assert Retention(keeping.broker).run().unread == ()
    worker.stop()
    keeping.logs.publish_many([note("b"), note("c")])
    (unread,) = Retention(keeping.broker).run().unread
    assert (unread.subscription, unread.waiting, unread.given_up) == ("left", 3, False)
    client.hset(keeping.keys.checkpoints.seen, "left", 1)  # long ago
    report = Retention(keeping.broker).run()
    assert report.unread[0].silent_s > 1e9
    assert not report.unread[0].given_up
    assert client.xinfo_groups(entries)

    strict = open_bench(redis={"stream_max_length": 1}, retention={"abandoned_after": 3600})
    back = work(open_bench())
    wait_until(lambda: Retention(strict.broker).show().unread == ())  # it has begun to read
    assert Retention(strict.broker).run().unread == ()  # it was seen just now
    back.stop()
    assert not Retention(strict.broker).run().unread[0].given_up
    client.hset(keeping.keys.checkpoints.seen, "left", 1)
    assert Retention(strict.broker).show().unread[0].given_up
    assert client.xinfo_groups(entries)
    report = Retention(strict.broker).run()
    assert report.unread[0].given_up
    assert "given up: left" in str(report)
    assert client.xinfo_groups(entries) == []
    source = keeping.keys.log("test.note", "0").subscription("left")
    assert not client.exists(source.parked, source.options, source.done)
    audit: Any = client.xrevrange(source.audit, count=1)
    assert b"abandon" in audit[0][1][b"r"]
    assert Retention(strict.broker).run().unread == ()


def test_many_entries_go_in_pages(
    open_bench: OpenBench, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PAGE", 700)
    bench = open_bench(redis={"stream_max_length": 500}, event_bus={"max_queue_size": 0})
    bench.logs.publish_many([note(n) for n in range(5_000)])
    Checkpoints(bench.broker).create("nobody reads it: it needs nothing")
    report = Retention(bench.broker).run()
    assert report.trimmed == 5_000 - report.streams[0].length
    assert 500 <= report.streams[0].length <= 600  # whole blocks only
    assert Checkpoints(bench.broker).prune(PrunePolicy(0)) == ()


def test_a_checkpoint_waits_for_retention(open_bench: OpenBench) -> None:
    """What retention has read of checkpoints does not change before it has trimmed."""
    bench = open_bench(redis={"stream_max_length": 1})
    bench.logs.publish_many([note(n) for n in range(3)])
    order: list[str] = []

    class Watching(LinkPool):
        def call(self, action: Any) -> Any:
            order.append("asked")
            return super().call(action)

    with turn(bench.logs.links, bench.keys.checkpoints, "retention"):
        taking = threading.Thread(
            target=lambda: order.append(
                Checkpoints(
                    bench.broker, links=Watching(bench.broker.endpoint, bench.logs.links.retry)
                )
                .create("waits")
                .reason
            )
        )
        taking.start()
        wait_until(lambda: len(order) > 3)
        assert "waits" not in order
    taking.join()
    assert order[-1] == "waits"


def test_on_the_twin() -> None:
    with TestBroker(settings=Settings.model_validate({"redis": {"stream_max_length": 5}})) as twin:

        @on(Note, name="twin", broker=twin)
        def handler(event: Note) -> None: ...

        twin.publish(*[note(n) for n in range(230)])
        assert Retention(twin).run().trimmed == 0
        twin.run_until_idle()
        assert Retention(twin).run().trimmed == 200
        assert [one.subscription for one in Retention(twin).show().unread] == ["twin"]


def test_under_load_nothing_unread_goes_and_a_log_does_not_grow(
    open_bench: OpenBench, client: redis.Redis
) -> None:
    """The short form; `test_retention_soak` is the long one."""
    bench = open_bench(redis={"stream_max_length": 500, "retry_delay": 0.02})
    handled: list[str] = []

    @bench.on(Two, name="load", start="earliest")
    def load(event: Two) -> None:
        handled.append(event.key)

    bench.start(threads=4)
    checkpoints, lengths, memory = Checkpoints(bench.broker), [], []
    streams = [bench.logs.stream(Two, part).entries for part in "01"]
    for number in range(20):
        batch = [Two(ts_event=1, key=f"{number}.{n}") for n in range(400)]
        bench.logs.publish_many(batch)
        checkpoints.create("under way")
        checkpoints.prune(PrunePolicy(2))
        Retention(bench.broker).run()
        lengths.append(max(client.xlen(one) for one in streams))
        memory.append(sum(int(client.memory_usage(one) or 0) for one in streams))
        wait_until(lambda total=400 * (number + 1): len(handled) >= total - 800)  # type: ignore[misc]
    bench.settled("load")
    assert len(handled) == len(set(handled)) == 8_000
    assert max(lengths) < 2_500
    assert max(memory[10:]) < 1.5 * max(memory[3:10])
