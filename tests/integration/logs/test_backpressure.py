"""A log takes no more than its slowest subscription may have to handle."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from tests.integration.logs.harness import Bench, Echo, Note, Spread, Urgent, note, texts
from tests.support import CuttingProxy, wait_until

from streamatiq import Event, Lane, OrderEvent, Partitioned, Receipt
from streamatiq.broker.backpressure import Backpressure
from streamatiq.broker.groups import groups_maker
from streamatiq.broker.subscriptions import Subscription
from streamatiq.errors import BacklogFull, ConfigurationError

Opens = Callable[..., Bench]


class Limit(OrderEvent, type="test.limit_order"):
    """An order under another type name."""


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Handlers wait on it; opened at the end, so that a failed test stops too."""
    event = threading.Event()
    yield event
    event.set()


def group(bench: Bench, name: str, *classes: type[Event], start: Any = "earliest") -> None:
    """A subscription whose workers are down: its groups exist, and nobody reads."""
    bench.broker.declare_subscription(Subscription(name, classes, start))
    make = groups_maker(bench.broker._sources(name), bench.broker._group_start(name))
    bench.broker._links.call(make)


def fill(bench: Bench, count: int) -> list[Receipt]:
    return [bench.logs.publish(note(n)) for n in range(count)]


@pytest.fixture
def small(open_bench: Opens) -> Bench:
    """A log of notes that takes three."""
    bench = open_bench(event_bus={"max_queue_size": 3})
    group(bench, "slow", Note)
    return bench


def test_a_full_log_refuses_with_figures(small: Bench) -> None:
    fill(small, 3)
    event = note("x")
    with pytest.raises(BacklogFull) as caught:
        small.logs.publish(event)
    full = caught.value
    assert (full.log, full.part, full.subscription) == ("test.note", "0", "slow")
    assert (full.backlog, full.limit, full.accepted, full.left) == (3, 3, 0, (event,))
    assert (full.queue, full.waited_s, full.receipts) == (None, 0, ())
    assert str(full) == (
        "The log 'test.note', part 0, is full: subscription 'slow' has 3 events to handle, and "
        "event_bus.max_queue_size is 3. The event is not stored. Start more workers, publish it "
        "later, or let publishers wait (event_bus.when_full: block). If nobody needs this "
        "subscription any more, give it up, without any worker of it running: "
        f"XGROUP DESTROY {small.keys.log('test.note', '0').entries} slow"
    )
    assert texts(small.read(Note)) == ["0", "1", "2"]


def test_what_a_refusal_says_gives_the_subscription_up(small: Bench, client: redis.Redis) -> None:
    fill(small, 3)
    with pytest.raises(BacklogFull) as caught:
        small.logs.publish(note("x"))
    _, _, command = str(caught.value).rpartition(": ")
    assert client.execute_command(*command.split(" ")) == 1

    def published() -> object:
        with suppress(BacklogFull):
            return small.logs.publish(note("x"))

    wait_until(published)  # a backlog is looked at once a second
    assert texts(small.read(Note)) == ["0", "1", "2", "x"]


def test_a_log_without_subscriptions_or_limit_takes_all(open_bench: Opens) -> None:
    fill(open_bench(event_bus={"max_queue_size": 3}), 10)
    bench = open_bench(event_bus={"max_queue_size": 0, "when_full": "block"})
    group(bench, "slow", Note)
    fill(bench, 10)
    assert len(bench.read(Note)) == 20


def test_the_slowest_subscription_counts_and_settling_makes_room(
    open_bench: Opens, gate: threading.Event
) -> None:
    bench = open_bench(event_bus={"max_queue_size": 5})
    fast_runs: list[str] = []

    @bench.on(Note, name="fast")
    def fast(event: Note) -> None:
        fast_runs.append(event.text)

    @bench.on(Note, name="slow")
    def slow(event: Note) -> None:
        gate.wait(10)

    bench.start(threads=8)  # "slow" holds five of them
    fill(bench, 5)
    bench.settled("fast")
    # Those that run and those that are unread count alike.
    with pytest.raises(BacklogFull, match="subscription 'slow' has 5 events"):
        bench.logs.publish(note("x"))
    gate.set()
    bench.settled("slow")
    fill(bench, 5)
    bench.settled("fast", "slow")
    assert len(fast_runs) == 10


def test_duplicates_are_answered_when_there_is_no_room(small: Bench) -> None:
    events = [note(n) for n in range(3)]
    first = small.logs.publish_many(events)
    assert small.logs.publish(events[1]) == first[1]._replace(duplicate=True)
    new = note("new")
    with pytest.raises(BacklogFull) as caught:
        small.logs.publish_many([new, *events, new])
    assert caught.value.receipts == tuple(one._replace(duplicate=True) for one in first)
    assert caught.value.left == (new, new)
    assert caught.value.accepted == 3


def test_publish_many_stores_what_fits_and_says_what_is_left(open_bench: Opens) -> None:
    bench = open_bench(event_bus={"max_queue_size": 700})
    group(bench, "slow", Note)
    events: list[Event] = [note(n) for n in range(1_300)]
    with pytest.raises(BacklogFull, match="700 of this call's 1,300 events are stored") as caught:
        bench.logs.publish_many(events)
    assert (caught.value.accepted, caught.value.backlog) == (700, 700)
    assert caught.value.left == tuple(events[700:])
    assert [e.entry_id for e in bench.read(Note)] == [r.entry_id for r in caught.value.receipts]
    assert texts(bench.read(Note)) == [str(n) for n in range(700)]
    # All again is harmless.
    with pytest.raises(BacklogFull) as caught:
        bench.logs.publish_many(events)
    assert (caught.value.accepted, len(bench.read(Note))) == (700, 700)


def test_each_partition_and_lane_has_its_own_backlog(open_bench: Opens) -> None:
    bench = open_bench(event_bus={"max_queue_size": 1})
    group(bench, "slow", Spread, Urgent)
    spread = {
        bench.logs.part_of(event): event
        for event in (Spread(ts_event=1, key=str(n)) for n in range(40))
    }
    assert len(bench.logs.publish_many(list(spread.values()))) == 4
    with pytest.raises(BacklogFull, match="part 2"):
        bench.logs.publish(Spread(ts_event=1, key=spread["2"].key))
    for lane in Lane:
        bench.logs.publish(Urgent(ts_event=1, priority=lane))
    with pytest.raises(BacklogFull) as caught:
        bench.logs.publish(Urgent(ts_event=1, priority=Lane.HIGH))
    assert (caught.value.log, caught.value.part) == ("test.urgent", "high")


def test_two_publishers_never_exceed_the_limit(open_bench: Opens) -> None:
    limit = 60
    benches = [open_bench(event_bus={"max_queue_size": limit}) for _ in range(2)]
    group(benches[0], "slow", Note)
    stored: list[str] = []

    def publish(bench: Bench, name: str) -> None:
        for n in range(50):
            events = [note(f"{name}{n}.{m}") for m in range(1 + n % 3)]
            try:
                bench.logs.publish_many(events)
                stored.extend(event.text for event in events)
            except BacklogFull as full:
                stored.extend(event.text for event in events[: full.accepted])

    threads = [
        threading.Thread(target=publish, args=(bench, name))
        for bench, name in zip(benches, "ab", strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored) == limit
    assert sorted(texts(benches[0].read(Note))) == sorted(stored)


def test_a_limit_holds_beside_publishers_that_have_none(open_bench: Opens) -> None:
    """What the others add is seen within a second, or when the bound that is kept is used up."""
    bench = open_bench(event_bus={"max_queue_size": 5})
    free = open_bench(event_bus={"max_queue_size": 0})
    group(bench, "slow", Note)
    bench.logs.publish(note("kept"))
    with bench.broker.client() as client:
        assert 0 < int(client.pttl(bench.keys.log("test.note", "0").filled)) <= 1000  # type: ignore[arg-type]
    fill(free, 10)

    def is_full() -> bool:
        try:
            bench.logs.publish(note("x"))
        except BacklogFull:
            return True
        return False

    wait_until(is_full, 5)
    assert len(bench.read(Note)) <= 15


def test_a_logs_first_group_counts_from_its_first_moment(open_bench: Opens) -> None:
    bench = open_bench(event_bus={"max_queue_size": 4})
    fill(bench, 1)
    group(bench, "first", Note)
    fill(bench, 3)
    with pytest.raises(BacklogFull, match="'first' has 4 events"):
        bench.logs.publish(note("x"))


def test_a_group_made_in_mid_stream_counts_from_its_start(open_bench: Opens) -> None:
    bench = open_bench(event_bus={"max_queue_size": 4})
    fill(bench, 10)
    group(bench, "new", Note, start="new")
    assert bench.broker.backlog("new") == 0
    fill(bench, 2)
    assert bench.broker.backlog("new") == 2
    # Read, and not settled: in the middle of the stream.
    with bench.broker.client() as client:
        client.xreadgroup("new", "c", {bench.keys.log("test.note", "0").entries: ">"}, count=1)
    fill(bench, 2)
    assert bench.broker.backlog("new") == 4
    with pytest.raises(BacklogFull, match="'new' has 4 events"):
        bench.logs.publish(note("x"))


def test_a_group_that_reads_from_the_beginning_does_not_count_what_was_trimmed(
    open_bench: Opens, client: redis.Redis
) -> None:
    bench = open_bench(event_bus={"max_queue_size": 4})
    fill(bench, 10)
    client.xtrim(bench.keys.log("test.note", "0").entries, maxlen=3, approximate=False)
    group(bench, "all", Note)
    assert bench.broker.backlog("all") == 3
    bench.logs.publish(note("x"))
    with pytest.raises(BacklogFull):
        bench.logs.publish(note("x"))


def test_a_group_whose_lag_is_not_known_counts_what_is_pending(
    small: Bench, client: redis.Redis
) -> None:
    """Of another making: its lag is unknown in the middle of a stream."""
    entries = small.keys.log("test.note", "0").entries
    client.xgroup_destroy(entries, "slow")
    fill(small, 3)
    client.xgroup_create(entries, "slow", "$")
    fill(small, 5)
    assert small.broker.backlog("slow") == 1  # some
    client.xreadgroup("slow", "c", {entries: ">"}, count=3)
    assert small.broker.backlog("slow") == 4
    client.delete(small.keys.log("test.note", "0").filled)
    with pytest.raises(BacklogFull):
        small.logs.publish(note("x"))


def test_entries_trimmed_by_others_do_not_stop_publishers(
    small: Bench, client: redis.Redis
) -> None:
    fill(small, 3)
    client.xtrim(small.keys.log("test.note", "0").entries, maxlen=0, approximate=False)
    assert small.broker.backlog("slow") == 0
    fill(small, 1)


def test_emits_are_never_refused(open_bench: Opens) -> None:
    bench = open_bench(event_bus={"max_queue_size": 2})
    group(bench, "slow", Echo)

    @bench.on(Note, name="emits")
    def emits(event: Note) -> list[Echo]:
        return [Echo(ts_event=2, text=f"{event.text}.{n}") for n in range(5)]

    bench.start()
    bench.logs.publish(note("a"))
    bench.echoes(5)
    bench.settled("emits")
    with pytest.raises(BacklogFull, match="'slow' has 5 events"):
        bench.logs.publish(Echo(ts_event=1, text="x"))
    bench.logs.publish(note("b"))
    bench.echoes(10)


def test_a_lost_reply_of_a_partly_accepted_call_stores_nothing_twice(
    open_bench: Opens, proxy: CuttingProxy, small: Bench
) -> None:
    bench = open_bench(proxy.url, event_bus={"max_queue_size": 3})
    bench.logs.publish(note("warm"))
    proxy.cut_reply(b"EVALSHA", times=2)
    with pytest.raises(BacklogFull) as caught:
        bench.logs.publish_many([note(n) for n in range(5)])
    assert proxy.cuts == 2
    assert caught.value.accepted == 2
    assert texts(bench.read(Note)) == ["warm", "0", "1"]


# Waiting


def test_block_waits_until_a_worker_makes_room_and_keeps_the_order(
    open_bench: Opens, gate: threading.Event
) -> None:
    bench = open_bench(event_bus={"max_queue_size": 5, "when_full": "block", "block_timeout": 10})
    runs: list[str] = []

    @bench.on(Note, name="slow")
    def slow(event: Note) -> None:
        gate.wait(10)
        runs.append(event.text)

    bench.start(threads=1)
    got: list[Receipt] = []
    sender = threading.Thread(
        target=lambda: got.extend(bench.logs.publish_many([note(n) for n in range(40)]))
    )
    sender.start()
    wait_until(lambda: len(bench.read(Note)) == 5)
    assert got == []
    gate.set()
    sender.join(10)
    bench.settled("slow")
    assert runs == [str(n) for n in range(40)]
    assert [one.entry_id for one in got] == [one.entry_id for one in bench.read(Note)]


def test_what_found_no_room_goes_before_what_comes_after_it(open_bench: Opens) -> None:
    """More than one script call takes, to several streams."""
    bench = open_bench()
    group(bench, "slow", Note, Echo)

    def wait(_: float) -> bool:
        with bench.broker.client() as client:
            for cls in (Note, Echo):
                entries = bench.keys.log(cls.event_type, "0").entries
                reply: Any = client.xreadgroup("slow", "c", {entries: ">"}, count=400)
                for _, found in reply:
                    client.xack(entries, "slow", *(entry_id for entry_id, _ in found))
        return False

    bench.logs._pressure = Backpressure(700, block_s=5.0, wait=wait)
    events: list[Event] = []
    for n in range(1_700):
        events += (note(n), Echo(ts_event=1, text=str(n)))
    receipts = bench.logs.publish_many(events)
    assert [one.log for one in receipts[:2]] == ["test.note", "test.echo"]
    for cls, first in ((Note, 0), (Echo, 1)):
        assert texts(bench.read(cls)) == [str(n) for n in range(1_700)]
        assert [e.entry_id for e in bench.read(cls)] == [r.entry_id for r in receipts[first::2]]


def test_block_gives_up_when_no_room_was_found_for_so_long(small: Bench) -> None:
    now_s = 0.0
    tries = 0

    def wait(seconds: float) -> bool:
        nonlocal now_s, tries
        now_s += seconds
        tries += 1
        if tries == 20:  # room for one: the wait begins anew
            with small.broker.client() as client:
                entries = small.keys.log("test.note", "0").entries
                reply: Any = client.xreadgroup("slow", "c", {entries: ">"}, count=1)
                client.xack(entries, "slow", reply[0][1][0][0])
        return False

    small.logs._pressure = Backpressure(3, block_s=2.0, clock_s=lambda: now_s, wait=wait)
    with pytest.raises(BacklogFull, match=r"Waited 3\.\d s for room") as caught:
        small.logs.publish_many([note(n) for n in range(6)])
    assert caught.value.accepted == 4
    assert 2.5 < caught.value.waited_s == now_s < 4


def test_coroutines_wait_without_holding_the_loop(open_bench: Opens, gate: threading.Event) -> None:
    bench = open_bench(event_bus={"max_queue_size": 2, "when_full": "block", "block_timeout": 10})
    runs: list[str] = []

    @bench.on(Note, name="slow")
    def slow(event: Note) -> None:
        gate.wait(10)
        runs.append(event.text)

    bench.start(threads=1)

    async def publish() -> None:
        task = asyncio.ensure_future(bench.logs.apublish_many([note(n) for n in range(10)]))
        while len(await asyncio.to_thread(bench.read, Note)) < 2:
            pass
        with pytest.raises(BacklogFull, match="an event loop runs in this thread: use apublish"):
            bench.logs.publish(note("in the loop"))
        assert not task.done()
        gate.set()
        assert len(await task) == 10
        await bench.logs.aclose()

    asyncio.run(publish())
    bench.settled("slow")
    assert runs == [str(n) for n in range(10)]


def test_a_coroutine_is_refused_too(small: Bench) -> None:
    async def publish() -> None:
        try:
            await small.logs.apublish_many([note(n) for n in range(5)])
        finally:
            await small.logs.aclose()

    with pytest.raises(BacklogFull) as caught:
        asyncio.run(publish())
    assert caught.value.accepted == 3


# Shedding


def test_what_may_be_shed_is_dropped_and_counted(open_bench: Opens) -> None:
    bus = {"max_queue_size": 3, "when_full": "block", "shed": ["test.note"]}
    bench = open_bench(event_bus=bus)
    assert bench.logs.shed_count(Note) == 0
    once = note("free")
    assert [one.shed for one in bench.logs.publish_many([once] * 5)] == [False] * 5
    assert bench.logs.shed_count(Note) == 0
    group(bench, "slow", Note, Echo, start="new")
    events = [note(n) for n in range(5)]
    receipts = bench.logs.publish_many([*events, events[4]])
    assert [one.shed for one in receipts] == [False] * 3 + [True] * 3
    assert receipts[3:] == [Receipt("test.note", "0", "", duplicate=False, shed=True)] * 3
    assert bench.logs.publish(events[3]).shed
    assert bench.logs.publish(events[0]) == receipts[0]._replace(duplicate=True)
    assert texts(bench.read(Note)) == ["free", "0", "1", "2"]
    assert bench.logs.shed_count(Note) == 3  # two, and one of them again
    # Others are not shed.
    bench.logs._pressure = Backpressure(3, shed=frozenset(bus["shed"]))  # type: ignore[arg-type]
    with pytest.raises(BacklogFull):
        bench.logs.publish_many([Echo(ts_event=1) for _ in range(4)])


def test_shed_events_are_known_no_more(small: Bench, client: redis.Redis) -> None:
    """They may be published again when there is room."""
    small.logs._pressure = Backpressure(3, shed=frozenset(["test.note"]))
    fill(small, 3)
    event = note("later")
    assert small.logs.publish(event).shed
    client.xgroup_destroy(small.keys.log("test.note", "0").entries, "slow")
    client.delete(small.keys.log("test.note", "0").filled)
    receipt = small.logs.publish(event)
    assert not receipt.shed
    assert not receipt.duplicate


def test_orders_are_never_shed_whatever_their_type_is_called(open_bench: Opens) -> None:
    bench = open_bench(event_bus={"shed": ["test.limit_order"]})
    assert Limit.log == Partitioned(1)
    with pytest.raises(ConfigurationError, match=r"event_bus.shed names 'test.limit_order', but"):
        bench.logs.stream(Limit, "0")
