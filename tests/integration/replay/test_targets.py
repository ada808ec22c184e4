"""Replays against a server: the library, the three targets, and what handlers do with them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from tests.integration.logs.harness import Bench, Echo, Note, Spread, Urgent, note, texts
from tests.support import wait_until

from streamatiq import (
    Checkpoints,
    Event,
    EventMonitor,
    OrderEvent,
    Partitioned,
    replay,
    resume_replay,
)
from streamatiq.errors import (
    InvalidReplay,
    LogMismatch,
    NeedsCheckpoint,
    ReplayError,
    ReplayExists,
    ReplayNotFound,
    ReplayNotRunning,
    ReplayRangeTrimmed,
    ReplayTaken,
)
from streamatiq.scheduler.replay import Replay, Standing, Status, store_of
from streamatiq.scheduler.replay.access import replay_output


def published(bench: Bench, count: int = 40) -> list[Event]:
    """Events of three logs; those of one call share their time of appending: ties."""
    events: list[Event] = [
        cls(ts_event=1000 + n, key=f"k{n % 5}", text=f"{cls.__name__} {n}")  # type: ignore[call-arg]  # all have one
        for n in range(count)
        for cls in (Note, Spread, Urgent)
    ]
    bench.logs.publish_many(events)
    return events


ALL = [Note, Spread, Urgent]


def keys_of(client: redis.Redis, namespace: str) -> list[bytes]:
    return [
        key
        for key in client.scan_iter(match=f"*{namespace}*", count=1000)
        if key.lstrip(b"{").startswith((f"{namespace}:".encode(), f"{namespace}.".encode()))
    ]


# -- the library ----------------------------------------------------------------------------------


def test_iterating_gives_every_event_once_in_order_with_its_place(bench: Bench) -> None:
    events = published(bench)
    items = list(replay(ALL, broker=bench.broker))
    assert [one.order for one in items] == sorted(one.order for one in items)
    assert len({one.time_ns for one in items}) < len(items)  # ties, which the place breaks
    assert sorted(one.event.id for one in items) == sorted(one.id for one in events)
    at = items[7].place
    (entry,) = bench.read(items[7].cls, first=at.entry_id, last=at.entry_id, part=at.part)
    assert entry.event == items[7].event
    assert list(replay(Note, broker=bench.broker, keys=["none"])) == []


def test_three_runs_have_one_digest(bench: Bench) -> None:
    published(bench)
    digests = {
        replay(ALL, broker=bench.broker, speed=speed).run().digest for speed in ("max", "max", 10)
    }
    assert len(digests) == 1


def test_a_range_by_time(bench: Bench, client: redis.Redis) -> None:
    for n in range(3):
        key = bench.keys.log("test.note", "0").entries
        bench.logs.publish(note(n))
        ms = int(client.time()[0] * 1000 + client.time()[1] / 1000)
        wait_until(lambda ms=ms: int(client.time()[0] * 1000 + client.time()[1] / 1000) > ms + 1)  # type: ignore[misc]
        assert client.xlen(key) == n + 1
    times = [one.appended_us * 1000 for one in bench.read(Note)]
    found = list(replay(Note, broker=bench.broker, start=times[1], end=times[2]))
    assert [one.event.text for one in found] == ["1"]  # type: ignore[attr-defined]
    late = list(replay(Note, broker=bench.broker, start=times[1]))
    assert [one.event.text for one in late] == ["1", "2"]  # type: ignore[attr-defined]


def test_what_is_published_later_is_not_part_of_it(bench: Bench) -> None:
    published(bench, 5)
    run = replay(Note, broker=bench.broker)
    published(bench, 5)
    assert len(list(run)) == 5


def test_a_trimmed_range_is_an_error(bench: Bench, client: redis.Redis) -> None:
    published(bench, 20)
    key = bench.keys.log("test.note", "0").entries
    client.xtrim(key, maxlen=15, approximate=False)
    with pytest.raises(ReplayRangeTrimmed, match=r"'test\.note' \(part 0\).*begin there"):
        replay(Note, broker=bench.broker)
    with pytest.raises(ReplayRangeTrimmed):
        replay(Note, broker=bench.broker, time_basis="event", start=datetime.now(UTC))
    with pytest.raises(ReplayRangeTrimmed):
        replay(Note, broker=bench.broker, start=datetime(2020, 1, 1, tzinfo=UTC))
    whole = datetime.now(UTC) + timedelta(seconds=5)
    assert list(replay(Note, broker=bench.broker, start=whole)) == []
    ahead = whole + timedelta(minutes=2)
    assert list(replay(Note, broker=bench.broker, time_basis="event", start=ahead)) == []
    # Everything is gone.
    client.xtrim(key, maxlen=0, approximate=False)
    with pytest.raises(ReplayRangeTrimmed):
        replay(Note, broker=bench.broker)
    # A hole in the middle.
    entries = [bench.logs.publish(Echo(ts_event=1)).entry_id for _ in range(3)]
    client.xdel(bench.keys.log("test.echo", "0").entries, entries[1])
    with pytest.raises(ReplayRangeTrimmed):
        replay(Echo, broker=bench.broker)


def test_what_is_trimmed_while_it_runs_is_noticed(bench: Bench, client: redis.Redis) -> None:
    bench.logs.publish_many([note(n) for n in range(1000)])
    run = iter(replay(Note, broker=bench.broker))
    next(run)
    client.xtrim(bench.keys.log("test.note", "0").entries, maxlen=100, approximate=False)
    with pytest.raises(ReplayRangeTrimmed, match="while it was replayed"):
        list(run)


def test_another_layout_is_refused(bench: Bench, client: redis.Redis) -> None:
    client.set(bench.keys.layout("test.spread"), "partitioned:8")
    with pytest.raises(LogMismatch):
        replay(Spread, broker=bench.broker)


@pytest.mark.asyncio
async def test_async_for(bench: Bench) -> None:
    published(bench, 300)
    wanted = [str(one.place) for one in replay(ALL, broker=bench.broker)]
    assert [str(one.place) async for one in replay(ALL, broker=bench.broker)] == wanted


# -- isolated ------------------------------------------------------------------------------------


def test_isolated_holds_the_same_events_with_the_same_ids(
    bench: Bench, bench_in: Callable[[str], Bench], client: redis.Redis
) -> None:
    published(bench)
    run = replay(ALL, broker=bench.broker, target="isolated", replay_id="one")
    report = run.run()
    assert report.status == "done"
    assert report.counts == {"test.note": 40, "test.spread": 40, "test.urgent": 40}
    assert report.digest == replay(ALL, broker=bench.broker).run().digest
    there = bench_in(f"{bench.namespace}.replay.one")
    for cls in ALL:
        before, after = bench.read(cls), there.read(cls)
        assert [one.event.stamped(0) for one in before] == [one.event.stamped(0) for one in after]
        assert all(
            one.event.ts_published > two.event.ts_published
            for one, two in zip(after, before, strict=True)
        )
    record = store_of(bench.broker).get("one")
    assert record.standing is Standing.DONE
    assert record.fraction == 1
    assert record.progress.digest.hex() == report.digest
    with pytest.raises(ReplayError, match="is done"):
        resume_replay("one", broker=bench.broker)
    with pytest.raises(ReplayExists, match="'one'"):
        replay(Note, broker=bench.broker, target="isolated", replay_id="one")
    assert store_of(bench.broker).remove("one") > 10
    assert not [key for key in keys_of(client, bench.namespace) if b"replay" in key]
    with pytest.raises(ReplayNotFound):
        store_of(bench.broker).remove("one")


def test_a_namespace_that_is_in_use_is_refused(
    bench: Bench, bench_in: Callable[[str], Bench]
) -> None:
    published(bench, 3)
    bench_in(f"{bench.namespace}.replay.mine").logs.publish(note("there"))
    with pytest.raises(ReplayExists, match="in use"):
        replay(Note, broker=bench.broker, target="isolated", replay_id="mine")
    assert store_of(bench.broker).ids() == []


def test_a_full_target_is_waited_for(bench: Bench, bench_in: Callable[[str], Bench]) -> None:
    bench.logs.publish_many([note(n) for n in range(12_000)])
    there = bench_in(f"{bench.namespace}.replay.full")
    seen: list[str] = []
    go = threading.Event()

    @there.on(Note, name="slow")
    def slow(event: Note) -> None:
        go.wait(20)
        seen.append(event.text)

    run = replay(Note, broker=bench.broker, target="isolated", replay_id="full")
    there.start(threads=4)
    done = threading.Thread(target=run.run)
    done.start()
    store = store_of(bench.broker)
    wait_until(lambda: store.get("full").progress.count > 9000, 15)
    assert store.get("full").progress.count < 12_000
    go.set()
    done.join(20)
    there.settled("slow", timeout_s=20)
    assert sorted(map(int, seen)) == list(range(12_000))


def test_cancel_ends_a_wait_for_room(bench: Bench, bench_in: Callable[[str], Bench]) -> None:
    bench.logs.publish_many([note(n) for n in range(10_500)])
    there = bench_in(f"{bench.namespace}.replay.full")
    there.on(Note, name="never")(lambda event: None)
    run = replay(Note, broker=bench.broker, target="isolated", replay_id="full")
    worker = there.start()
    worker.stop()
    done = threading.Thread(target=run.run)
    done.start()
    store = store_of(bench.broker)
    wait_until(lambda: store.get("full").progress.count > 9000, 15)
    store.command("full", "cancel")
    done.join(5)
    assert not done.is_alive()
    assert store.get("full").standing is Standing.CANCELLED


# -- commands ------------------------------------------------------------------------------------


@pytest.fixture
def driven(bench: Bench) -> Iterator[Callable[..., Replay]]:
    """Runs a replay in a thread, until the end of the test."""
    runs: list[tuple[Replay, threading.Thread]] = []

    def drive(**options: Any) -> Replay:
        run = replay(Note, broker=bench.broker, target="isolated", replay_id="driven", **options)
        thread = threading.Thread(target=run.run)
        thread.start()
        runs.append((run, thread))
        wait_until(lambda: store_of(bench.broker).get("driven").standing.is_live)
        return run

    yield drive
    for run, thread in runs:
        run.cancel()
        thread.join(10)


def test_commands_from_elsewhere_act_at_once(bench: Bench, driven: Any) -> None:
    bench.logs.publish_many([note(n, key="k") for n in range(100)])
    run = driven(paused=True)
    store = store_of(bench.broker)
    assert store.get("driven").standing is Standing.PAUSED
    store.command("driven", "step", "3")
    wait_until(lambda: run.report().count == 3)
    place = [str(one.place) for one in replay(Note, broker=bench.broker)][50]
    store.command("driven", "seek", place)
    assert store.get("driven").progress.epoch == 1
    store.command("driven", "speed", "2.5")
    assert store.get("driven").speed == 2.5
    for name, argument in (("speed", "0"), ("seek", "a/b/1-1"), ("step", "x"), ("dance", "")):
        with pytest.raises(ReplayError):
            store.command("driven", name, argument)
    store.command("driven", "speed", "max")
    store.command("driven", "resume")
    wait_until(lambda: run.status is Status.DONE)
    assert run.report().count == 3 + 50
    wait_until(lambda: store.get("driven").standing is Standing.DONE)
    with pytest.raises(ReplayNotRunning, match="it is done"):
        store.command("driven", "pause")
    store.command("driven", "cancel")
    assert store.get("driven").standing is Standing.DONE


def test_one_process_runs_a_replay(bench: Bench, driven: Any) -> None:
    published(bench, 5)
    driven(paused=True)
    with pytest.raises(ReplayTaken, match="Another process"):
        resume_replay("driven", broker=bench.broker).run()
    with pytest.raises(ReplayTaken, match="Cancel it first"):
        store_of(bench.broker).remove("driven")


def test_who_lost_its_lease_stops_and_saves_nothing(bench: Bench, client: redis.Redis) -> None:
    published(bench, 50)
    run = replay(Note, broker=bench.broker, target="isolated", replay_id="lost", paused=True)
    failed: list[BaseException] = []

    def drive() -> None:
        try:
            run.run()
        except ReplayTaken as error:
            failed.append(error)

    thread = threading.Thread(target=drive)
    thread.start()
    store = store_of(bench.broker)
    wait_until(lambda: store.get("lost").standing.is_live)
    client.delete(bench.keys.replay("lost").lease)  # as if it had run out
    other = resume_replay("lost", broker=bench.broker)
    assert other.run().count == 50
    run.step(5)
    thread.join(10)
    assert [type(one) for one in failed] == [ReplayTaken]
    record = store.get("lost")
    assert record.standing is Standing.DONE
    assert record.progress.count == 50


# -- handlers ------------------------------------------------------------------------------------


class Bid(OrderEvent, type="test.bid", log=Partitioned(1)):
    """An order of a test's own."""


def test_on_replay_decides_in_a_replays_namespace(
    bench: Bench, bench_in: Callable[[str], Bench]
) -> None:
    published(bench, 10)
    replay(Note, broker=bench.broker, target="isolated", replay_id="h").run()
    there = bench_in(f"{bench.namespace}.replay.h")
    ran: dict[str, list[str]] = {"run": [], "skip": [], "dry": [], "orders": []}

    @there.on(Note, name="runs")
    def runs(event: Note) -> Echo:
        ran["run"].append(event.text)
        return Echo(ts_event=2, text=f"run {event.text}")

    @there.on(Note, name="skips", on_replay="skip")
    def skips(event: Note) -> Echo:
        ran["skip"].append(event.text)
        return Echo(ts_event=2, text="never")

    @there.on(Note, name="dry", on_replay="dry_run", batch=4)
    def dry(events: list[Note]) -> list[Echo]:
        ran["dry"] += [event.text for event in events]
        return [Echo(ts_event=2, text=f"dry {event.text}") for event in events]

    @there.on(Note, name="orders")
    def orders(event: Note) -> Iterator[Echo | Bid] | None:
        ran["orders"].append(event.text)
        return None

    there.start()
    there.settled("runs", "skips", "dry", "orders")
    assert len(ran["run"]) == len(ran["dry"]) == 10
    assert ran["skip"] == ran["orders"] == []
    assert sorted(texts(there.read(Echo))) == sorted(f"run {one}" for one in ran["run"])
    would = bench_in(f"{bench.namespace}.replay.h.dry").read(Echo)
    assert sorted(texts(would)) == sorted(f"dry {one}" for one in ran["dry"])
    # All of it is the replay's output.
    assert replay_output(bench.broker, "h")[1] == 30


def test_live_deliveries_are_not_touched(bench: Bench) -> None:
    @bench.on(Note, name="live", on_replay="skip")
    def live(event: Note) -> Echo:
        return Echo(ts_event=2, text=event.text)

    bench.start()
    bench.logs.publish(note("a"))
    assert bench.echoes(1) == ["a"]


# -- one subscription ----------------------------------------------------------------------------


def test_a_subscription_alone_gets_the_events_again(bench: Bench) -> None:
    seen: dict[str, list[str]] = {"one": [], "other": [], "dry": [], "orders": []}

    @bench.on(Note, name="one")
    def one(event: Note) -> None:
        seen["one"].append(event.text)

    @bench.on(Note, name="other")
    def other(event: Note) -> None:
        seen["other"].append(event.text)

    @bench.on(Note, name="dry", on_replay="dry_run")
    def dry(event: Note) -> Echo:
        seen["dry"].append(event.text)
        return Echo(ts_event=1, text=event.text)

    bench.start()
    bench.logs.publish_many([note(n) for n in range(30)])
    bench.settled("one", "other", "dry")
    assert len(bench.read(Echo)) == 30
    run = replay(Note, broker=bench.broker, target="subscription:one", replay_id="s1")
    assert run.run().count == 30
    bench.settled("one")
    assert len(seen["one"]) == 60
    assert len(seen["other"]) == 30
    # The same replay, after a crash that forgot all: nothing is given twice.
    assert bench.read(Note)[-1].event.text == "29"
    replay(Note, broker=bench.broker, target="subscription:dry", replay_id="s2").run()
    bench.settled("dry")
    assert len(seen["dry"]) == 60
    assert len(bench.read(Echo)) == 30  # the second time it ran dry
    with Bench(bench.broker.endpoint.url, f"{bench.namespace}.replay.s2.dry") as there:
        assert len(there.read(Echo)) == 30


def test_a_subscription_gets_nothing_twice_after_a_crash(bench: Bench, client: redis.Redis) -> None:
    seen: list[str] = []

    @bench.on(Note, name="one")
    def one(event: Note) -> None:
        seen.append(event.text)

    bench.start()
    bench.logs.publish_many([note(n) for n in range(30)])
    bench.settled("one")
    replay(Note, broker=bench.broker, target="subscription:one", replay_id="s").run()
    bench.settled("one")
    # As a process leaves it that dies before its first save.
    state = bench.keys.replay("s").state
    client.hdel(state, "progress")
    client.hset(state, "status", "running")
    assert resume_replay("s", broker=bench.broker).run().count == 30
    bench.settled("one")
    assert len(seen) == 60


def test_a_subscription_that_does_not_exist_is_refused(bench: Bench) -> None:
    published(bench, 3)
    with pytest.raises(InvalidReplay, match="No subscription 'nobody'"):
        replay(Note, broker=bench.broker, target="subscription:nobody")
    assert store_of(bench.broker).ids() == []


# -- live ----------------------------------------------------------------------------------------


def test_live_needs_a_flag_and_a_checkpoint(bench: Bench) -> None:
    published(bench, 3)
    with pytest.raises(InvalidReplay, match="allow_live"):
        replay(Note, broker=bench.broker, target="live")
    assert store_of(bench.broker).ids() == []
    replay(Note, broker=bench.broker, target="live", allow_live=True)
    (taken,) = Checkpoints(bench.broker).list()
    assert "into live" in taken.reason
    (record,) = store_of(bench.broker).all()
    assert record.definition.checkpoint == taken.id
    assert len(bench.read(Note)) == 3  # it does not run yet


def test_without_a_checkpoint_nothing_goes_live(bench: Bench) -> None:
    published(bench, 3)

    def refuses(broker: object, reason: str) -> str:
        raise NeedsCheckpoint(f"{reason}: none for a test")

    with pytest.raises(NeedsCheckpoint, match="into live: none for a test"):
        replay(Note, broker=bench.broker, target="live", allow_live=True, checkpoint=refuses)
    assert store_of(bench.broker).ids() == []


def test_live_publishes_new_events_that_say_where_they_come_from(bench: Bench) -> None:
    seen: list[Note] = []
    skipped: list[Note] = []

    @bench.on(Note, name="all")
    def every(event: Note) -> Echo:
        seen.append(event)
        return Echo(ts_event=2, text=event.text)

    @bench.on(Echo, name="skips", on_replay="skip")
    def skips(event: Echo) -> None:
        skipped.append(event)  # type: ignore[arg-type]

    bench.start()
    bench.logs.publish_many([note(n) for n in range(10)])
    bench.settled("all", "skips")
    checkpoints: list[str] = []

    def checkpoint(broker: Any, reason: str) -> str:
        checkpoints.append(reason)
        return "cp-1"

    options: dict[str, Any] = {"target": "live", "allow_live": True, "checkpoint": checkpoint}
    run = replay(Note, broker=bench.broker, replay_id="l", **options)
    assert run.run().count == 10
    bench.settled("all", "skips")
    assert checkpoints == ["replay l into live"]
    assert store_of(bench.broker).get("l").definition.checkpoint == "cp-1"
    old, new = seen[:10], sorted(seen[10:], key=lambda one: int(one.text))
    assert len(new) == 10
    assert [one.causation_id for one in new] == [
        one.id for one in sorted(old, key=lambda one: int(one.text))
    ]
    assert all(one.trace == {"replay": "l"} for one in new)
    # What followed from replayed events is replayed, too.
    assert len(skipped) == 10
    assert len(bench.read(Echo)) == 20


def test_a_live_one_is_not_resumed_when_ids_are_forgotten(
    bench: Bench, client: redis.Redis
) -> None:
    published(bench, 3)
    options: dict[str, Any] = {
        "target": "live",
        "allow_live": True,
        "checkpoint": lambda broker, reason: "cp",
    }
    run = replay(Note, broker=bench.broker, replay_id="l", **options)
    next(iter(run))
    client.hset(bench.keys.replay("l").state, "saved_ms", 1)
    with pytest.raises(ReplayError, match="longer than live logs remember"):
        resume_replay("l", broker=bench.broker)


# -- the seed's call -----------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_replay_events(bench: Bench, bench_in: Callable[[str], Bench]) -> None:
    published(bench, 5)
    monitor = EventMonitor(bench.broker)
    report = await monitor.replay_events(
        event_type="test.note",
        start_time=datetime(2024, 8, 8, tzinfo=UTC),
        speed_multiplier=10.0,
    )
    assert (report.status, report.count) == ("done", 5)
    assert len(bench_in(f"{bench.namespace}.replay.{report.replay_id}").read(Note)) == 5
    seen: list[str] = []

    async def on_event(item: Any) -> None:
        seen.append(item.event.text)

    report = await monitor.replay_events(Note, speed_multiplier=None, on_event=on_event)
    assert report.replay_id is None
    assert seen == [f"Note {n}" for n in range(5)]
    with pytest.raises(InvalidReplay, match="naive"):
        await monitor.replay_events(Note, start_time=datetime(2024, 8, 8))


def test_what_retention_must_keep(bench: Bench) -> None:
    published(bench, 10)
    run = replay([Note, Urgent], broker=bench.broker, target="isolated", replay_id="a")
    items = [next(iter(run)) for _ in range(1)]
    again = iter(run)
    items.append(next(again))
    again.close()
    store = store_of(bench.broker)
    needed = store.needed()
    assert set(needed) == {"test.note/0", "test.urgent/normal"}
    assert needed["test.note/0"] == items[-1].place.entry_id
    assert needed["test.urgent/normal"] == ""
    store.command("a", "cancel")
    assert store.needed() == {}


# -- coroutines ----------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_async_for_with_a_target(bench: Bench, bench_in: Callable[[str], Bench]) -> None:
    published(bench, 30)
    run = replay(Note, broker=bench.broker, target="isolated", replay_id="a", speed=1000)
    there = bench_in(f"{bench.namespace}.replay.a")
    seen = 0
    async for item in run:
        seen += 1
        if seen == 10:
            # It has been delivered before the loop sees it.
            assert there.read(Note)[-1].event.id == item.event.id
            run.pause()
            run.step(5)
        if seen == 15:
            run.resume()
    assert seen == 30
    assert store_of(bench.broker).get("a").standing is Standing.DONE


@pytest.mark.asyncio
async def test_a_cancelled_task_leaves_its_replay_resumable(bench: Bench) -> None:
    bench.logs.publish_many([note(n) for n in range(30)])
    monitor = EventMonitor(bench.broker)
    task = asyncio.create_task(monitor.replay_events(Note, time_basis="event", max_rate=1.0))
    store = store_of(bench.broker)
    await asyncio.to_thread(
        wait_until, lambda: store.ids() and store.get(store.ids()[0]).progress.count
    )
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (record,) = store.all()
    assert record.standing is Standing.INTERRUPTED
    run = resume_replay(record.definition.replay_id, broker=bench.broker)
    assert run.report().count == record.progress.count
    assert store.remove(record.definition.replay_id) > 0
