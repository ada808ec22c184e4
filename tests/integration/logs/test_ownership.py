"""Who owns which partition: joining, leaving, standing by; what moves with it, and what waits."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import Any

import pytest
import redis
from dramatiq.middleware import TimeLimit
from tests.integration.logs.harness import Bench, Echo, Note, Spread, note
from tests.integration.logs.ordering import Ledger, OpenBench, key_on, spread
from tests.support import wait_until

from streamatiq.broker import buffer as buffer_module
from streamatiq.broker import gates, ordered_reader, shelf

#: Seconds within which partitions must change hands.
HAND_OVER_S = 2.0


def _owners(bench: Bench, client: redis.Redis, name: str) -> list[str]:
    """The owner of each partition of `Spread`; empty where there is none."""
    keys = [bench.keys.log("test.spread", str(n)).subscription(name) for n in range(4)]
    found: list[Any] = [client.get(one.owner) for one in keys]
    return ["" if one is None else one.decode() for one in found]


def _me(bench: Bench) -> str:
    return bench.broker._consuming().identity.consumer


def _waiting(bench: Bench, name: str) -> int:
    """Entries that wait in this process for their key."""
    intake = bench.broker._consuming()._all().get(name)
    return 0 if intake is None else intake.view().buffer.waiting


def _wait_for_shares(bench: Bench, client: redis.Redis, name: str, shares: list[int]) -> float:
    """Waits until so many partitions are owned by so many processes; seconds that it took."""
    begun = time.monotonic()

    def shared() -> bool:
        counts: dict[str, int] = defaultdict(int)
        for owner in _owners(bench, client, name):
            counts[owner] += 1
        return sorted(counts.values()) == sorted(shares) and "" not in counts

    wait_until(shared, what=lambda: str(_owners(bench, client, name)))
    return time.monotonic() - begun


def test_partitions_are_shared_as_processes_join_and_leave(
    open_bench: OpenBench, client: redis.Redis
) -> None:
    ledger = Ledger()
    benches = [open_bench() for _ in range(3)]
    for number, bench in enumerate(benches):

        @bench.on(Spread, name="shared", ordered=True)
        def shared(event: Spread, number: int = number) -> None:
            with ledger.run(event, number):
                time.sleep(0.0005)

    first, second, third = benches
    keys = [f"K{n}" for n in range(16)]
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        first.logs.publish_many([spread(keys[n % 16], n) for n in range(sent, sent + count)])
        sent += count

    def all_work(*numbers: int) -> None:
        """Events go on until each of these has run some; at a hand-over, too."""
        before = {number: ledger.by(number) for number in numbers}
        while any(ledger.by(number) == before[number] for number in numbers):
            send(100)
            wait_until(lambda: ledger.count > sent - 100)

    first.start(threads=2)
    all_work(0)
    second.start(threads=2)
    send(100)
    assert _wait_for_shares(first, client, "shared", [2, 2]) < HAND_OVER_S
    all_work(0, 1)
    third.start(threads=2)
    send(100)
    assert _wait_for_shares(first, client, "shared", [2, 1, 1]) < HAND_OVER_S
    all_work(0, 1, 2)
    send(100)
    second.stop()
    send(100)
    assert _wait_for_shares(first, client, "shared", [2, 2]) < HAND_OVER_S
    third.stop()
    send(100)
    assert _wait_for_shares(first, client, "shared", [4]) < HAND_OVER_S
    first.settled("shared")
    ledger.check({key: [str(n) for n in range(place, sent, 16)] for place, key in enumerate(keys)})


def test_one_partition_has_one_active_process_and_the_others_stand_by(
    open_bench: OpenBench, client: redis.Redis
) -> None:
    runs: list[tuple[int, str]] = []
    benches = [open_bench() for _ in range(3)]
    for number, bench in enumerate(benches):

        @bench.on(Note, name="single", ordered=True)
        def single(event: Note, number: int = number) -> None:
            runs.append((number, event.text))

        bench.start(threads=2)
    owner_key = benches[0].keys.log("test.note", "0").subscription("single").owner
    for n in range(50):
        benches[0].logs.publish(note(n))
    wait_until(lambda: len(runs) == 50)
    (active,) = {number for number, _ in runs}
    owner: Any = client.get(owner_key)
    assert owner.decode() == _me(benches[active])
    benches[active].stop()
    stopped_at = time.monotonic()
    publisher = benches[(active + 1) % 3]
    publisher.logs.publish(note("after"))
    wait_until(lambda: len(runs) == 51)
    assert time.monotonic() - stopped_at < HAND_OVER_S
    assert runs[-1][0] != active
    assert [text for _, text in runs] == [*map(str, range(50)), "after"]


def test_only_the_key_inside_a_running_handler_waits_at_a_hand_over(
    open_bench: OpenBench, client: redis.Redis
) -> None:
    ledger = Ledger()
    held, entered = threading.Event(), threading.Event()
    first, second = open_bench(), open_bench()
    # Two keys of each partition: of one the first event hangs.
    keys = [key_on(partition, nth) for partition in range(4) for nth in range(2)]
    slow = {key_on(partition, 0) for partition in range(4)}
    for number, bench in enumerate((first, second)):

        @bench.on(Spread, name="held", ordered=True)
        def handler(event: Spread, number: int = number) -> None:
            with ledger.run(event, number):
                if event.key in slow and event.text == "0":
                    entered.set()
                    held.wait(20)

    first.start(threads=8)
    first.logs.publish_many([spread(key, 0) for key in keys])
    wait_until(lambda: ledger.count == 4)  # the others hang
    second.start(threads=4)
    assert _wait_for_shares(first, client, "held", [2, 2]) < HAND_OVER_S
    moved = {
        key
        for key in keys
        for partition, owner in enumerate(_owners(first, client, "held"))
        if owner == _me(second) and key in (key_on(partition, 0), key_on(partition, 1))
    }
    assert len(moved) == 4
    published_at = time.monotonic()
    first.logs.publish_many([spread(key, n) for n in range(1, 20) for key in keys])
    free = [key for key in keys if key not in slow]
    wait_until(lambda: all(len(ledger.done[key]) == 20 for key in free), HAND_OVER_S)
    assert time.monotonic() - published_at < HAND_OVER_S
    # Those whose first event still runs have not gone on, at neither owner.
    assert all(ledger.done[key] == [] for key in slow)
    held.set()
    first.settled("held")
    ledger.check({key: [str(n) for n in range(20)] for key in keys})
    for key in moved & slow:
        assert ledger.where[key][0][0] == 0
        assert {who for who, _ in ledger.where[key][1:]} == {1}


def test_retries_keep_their_place_at_the_next_owner(open_bench: OpenBench) -> None:
    """Parked with a due time in the future: later ones of the key wait for it there, too."""
    ledger = Ledger()
    failing = threading.Event()
    failing.set()
    tries: list[str] = []
    first, second = open_bench(), open_bench()
    for number, bench in enumerate((first, second)):

        @bench.on(Spread, name="parks", ordered=True, min_backoff=700, max_backoff=700)
        def parks(event: Spread, number: int = number) -> None:
            with ledger.run(event, number):
                if event.text == "3" and failing.is_set():
                    tries.append(event.key)
                    raise RuntimeError("not yet")

    keys = [key_on(0), key_on(1), key_on(2), key_on(3)]
    first.start(threads=4)
    first.logs.publish_many([spread(key, n) for n in range(10) for key in keys])
    wait_until(lambda: len(tries) == 4)
    second.start(threads=4)  # it gets two partitions ...
    first.stop()  # ... and then all
    second.logs.publish_many([spread(key, n) for n in range(10, 15) for key in keys])
    failing.clear()
    second.settled("parks")
    ledger.check({key: [str(n) for n in range(15)] for key in keys})
    assert {who for runs in ledger.where.values() for who, text in runs if text == "14"} == {1}


def test_a_requeued_dead_letter_runs_by_itself(bench: Bench) -> None:
    from streamatiq.broker import DeadLetterFilter

    done: list[str] = []
    failing = threading.Event()
    failing.set()

    @bench.on(Spread, name="requeued", ordered=True, max_retries=0)
    def requeued(event: Spread) -> None:
        if event.text == "2" and failing.is_set():
            raise RuntimeError("never")
        done.append(event.text)

    bench.start()
    bench.logs.publish_many([spread("A", n) for n in range(5)])
    bench.settled("requeued")
    assert done == ["0", "1", "3", "4"]
    failing.clear()
    assert bench.broker.requeue_dead_letters("requeued", DeadLetterFilter())["requeued"] == 1
    bench.settled("requeued")
    assert done == ["0", "1", "3", "4", "2"]


def test_a_handler_beyond_its_time_limit_is_retried_before_the_rest_of_its_key(
    bench: Bench,
) -> None:
    begun: list[str] = []

    @bench.on(Spread, name="hangs", ordered=True, time_limit=300, max_retries=1)
    def hangs(event: Spread) -> None:
        begun.append(event.key + event.text)
        while event.text == "1" and event.key == "A":
            time.sleep(0.01)  # hangs; TimeLimit raises here

    (limit,) = [one for one in bench.broker.middleware if isinstance(one, TimeLimit)]
    limit.after_process_boot(bench.broker)  # as in a process of the `dramatiq` command
    bench.start(threads=2)
    bench.logs.publish_many([spread(key, n) for n in range(4) for key in "AB"])
    bench.settled("hangs")
    assert [one for one in begun if one[0] == "A"] == ["A0", "A1", "A1", "A2", "A3"]
    assert [one for one in begun if one[0] == "B"] == ["B0", "B1", "B2", "B3"]
    (letter,) = bench.broker.dead_letters("hangs")
    assert "TimeLimitExceeded" in letter.error


def test_a_paused_worker_gives_its_partitions_to_others(
    open_bench: OpenBench, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffer_module, "PAUSE_S", 0.3)
    ledger = Ledger()
    first, second = open_bench(), open_bench()
    workers = []
    for number, bench in enumerate((first, second)):

        @bench.on(Spread, name="paused", ordered=True)
        def paused(event: Spread, number: int = number) -> None:
            with ledger.run(event, number):
                pass

        workers.append(bench.start(threads=2))
    _wait_for_shares(first, client, "paused", [2, 2])
    keys = [f"K{n}" for n in range(8)]
    first.logs.publish_many([spread(key, n) for n in range(10) for key in keys])
    wait_until(lambda: ledger.count == 80)
    for consumer in workers[0].consumers.values():
        consumer.pause()
    never = threading.Event()
    never.wait(2 * buffer_module.PAUSE_S)
    # What comes is noticed by its owner, who then gives it up.
    second.logs.publish_many([spread(key, n) for n in range(10, 20) for key in keys])
    wait_until(lambda: ledger.count == 160)
    wait_until(lambda: set(_owners(first, client, "paused")) == {_me(second)})
    for consumer in workers[0].consumers.values():
        consumer.resume()
    _wait_for_shares(first, client, "paused", [2, 2])
    second.logs.publish_many([spread(key, n) for n in range(20, 30) for key in keys])
    second.settled("paused")
    ledger.check({key: [str(n) for n in range(30)] for key in keys})


def test_a_stop_in_the_middle_with_thousands_waiting(open_bench: OpenBench) -> None:
    ledger = Ledger()
    first, second = open_bench(), open_bench()
    for number, bench in enumerate((first, second)):

        @bench.on(Spread, name="stopped", ordered=True, start="earliest")
        def stopped(event: Spread, number: int = number) -> None:
            with ledger.run(event, number):
                if number == 0:
                    time.sleep(0.002)

    # A few hot keys: nearly all of it waits behind the gates.
    events = [spread(f"K{n % 3}", n) for n in range(6000)]
    for at in range(0, 6000, 500):
        first.logs.publish_many(events[at : at + 500])
    worker = first.start(threads=4)
    wait_until(lambda: ledger.count > 50)
    begun = time.monotonic()
    first.stop()
    assert time.monotonic() - begun < 5
    assert not worker.work_queue.qsize()
    assert ledger.count < 5000
    second.start(threads=4)
    second.settled("stopped", timeout_s=25)
    ledger.check({f"K{place}": [str(n) for n in range(place, 6000, 3)] for place in range(3)})
    assert all(len(runs) == 2000 for runs in ledger.where.values())


def test_what_cannot_be_decoded_holds_nobody_up(bench: Bench, client: redis.Redis) -> None:
    done: list[str] = []

    @bench.on(Note, name="decodes", ordered=True)
    def decodes(event: Note) -> None:
        done.append(event.text)

    bench.start()
    entries = bench.keys.log("test.note", "0").entries
    for n in range(20):
        bench.logs.publish(note(n, key="A"))
        client.xadd(entries, {"d": b"no event", "a": 1})
    bench.settled("decodes")
    assert done == [str(n) for n in range(20)]
    assert len(list(bench.broker.dead_letters("decodes"))) == 20


def test_several_types_and_partitions_in_one_ordered_subscription(bench: Bench) -> None:
    done: dict[tuple[str, str], list[str]] = defaultdict(list)
    lock = threading.Lock()

    @bench.on(Spread, Note, name="several", ordered=True, start="earliest")
    def several(event: Any) -> None:
        with lock:
            done[type(event).__name__, event.key].append(event.text)

    bench.logs.publish_many([spread(f"K{n % 5}", n) for n in range(200)])
    bench.logs.publish_many([note(n, key=f"K{n % 5}") for n in range(200)])
    bench.start(threads=4)
    bench.settled("several")
    assert len(done) == 10
    for (_, key), texts in done.items():
        assert texts == [str(n) for n in range(int(key[1]), 200, 5)]


def test_async_handlers_keep_the_order_of_keys(bench: Bench) -> None:
    import asyncio

    ledger = Ledger()

    @bench.on(Spread, name="async_ordered", ordered=True)
    async def async_ordered(event: Spread) -> None:
        ledger.begin(event.key)
        await asyncio.sleep(0.0005)
        ledger.end(event.key, event.text)

    bench.start(threads=4)
    bench.logs.publish_many([spread(f"K{n % 4}", n) for n in range(200)])
    bench.settled("async_ordered")
    ledger.check({f"K{k}": [str(n) for n in range(k, 200, 4)] for k in range(4)})
    assert ledger.most_at_once > 1


def test_emits_of_ordered_handlers_are_in_the_order_of_their_causes(bench: Bench) -> None:
    failed: set[str] = set()

    @bench.on(Spread, name="emits", ordered=True)
    def emits(event: Spread) -> Echo:
        if int(event.text) % 10 == 3 and event.text not in failed:
            failed.add(event.text)
            raise RuntimeError("once")
        return Echo(ts_event=2, key=event.key, text=event.text)

    bench.start(threads=4)
    bench.logs.publish_many([spread(f"K{n % 4}", n) for n in range(200)])
    bench.settled("emits")
    by_key: dict[str, list[str]] = defaultdict(list)
    for entry in bench.read(Echo):
        by_key[entry.event.key].append(entry.event.text)
    assert by_key == {f"K{k}": [str(n) for n in range(k, 200, 4)] for k in range(4)}


def test_more_than_may_wait_behind_a_key_stops_the_reading_and_then_it_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (shelf, buffer_module):
        monkeypatch.setattr(module, "MAX_WAITING", 200)
    ledger = Ledger()
    failing = threading.Event()
    failing.set()

    @bench.on(Spread, name="bounded", ordered=True, start="earliest")
    def bounded(event: Spread) -> None:
        if event.text == "0" and failing.is_set():
            raise RuntimeError("not yet")
        with ledger.run(event):
            pass

    key = key_on(1)
    events = [spread(key, n) for n in range(1000)]
    for at in range(0, 1000, 100):
        bench.logs.publish_many(events[at : at + 100])
    bench.start(threads=2)
    wait_until(lambda: "wait here for their key" in caplog.text)
    assert _waiting(bench, "bounded") <= 300
    assert ledger.count == 0
    failing.clear()
    bench.settled("bounded")
    ledger.check({key: [str(n) for n in range(1000)]})


def test_full_of_what_another_process_still_runs_it_goes_on_once_that_is_done(
    open_bench: OpenBench, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (shelf, buffer_module):
        monkeypatch.setattr(module, "MAX_WAITING", 200)
    ledger = Ledger()
    held = threading.Event()
    first, second = open_bench(), open_bench()
    for number, bench in enumerate((first, second)):

        @bench.on(Spread, name="full", ordered=True)
        def full(event: Spread, number: int = number) -> None:
            with ledger.run(event, number):
                if event.text == "0":
                    held.wait(20)

    keys = [key_on(partition) for partition in range(4)]
    first.start(threads=4)
    first.logs.publish_many([spread(key, 0) for key in keys])
    wait_until(lambda: sum(ledger.running.values()) == 4)
    second.start(threads=4)
    _wait_for_shares(first, client, "full", [2, 2])
    for at in range(1, 501, 100):
        first.logs.publish_many([spread(key, n) for n in range(at, at + 100) for key in keys])
    wait_until(lambda: _waiting(second, "full") >= 200)
    held.set()
    first.settled("full")
    ledger.check({key: [str(n) for n in range(501)] for key in keys})


def test_entries_that_were_trimmed_behind_a_gate_are_settled(
    bench: Bench, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "KEPT_WHOLE", 20)
    ledger = Ledger()
    held = threading.Event()

    @bench.on(Spread, name="trims", ordered=True)
    def trims(event: Spread) -> None:
        with ledger.run(event):
            held.wait(20)

    bench.start(threads=2)
    key = key_on(2)
    bench.logs.publish_many([spread(key, n) for n in range(100)])
    wait_until(lambda: _waiting(bench, "trims") >= 99)
    client.xtrim(bench.keys.log("test.spread", "2").entries, maxlen=10, approximate=False)
    held.set()
    bench.settled("trims")
    done = [int(text) for text in ledger.done[key]]
    assert done == sorted(done)
    assert set(range(90, 100)) <= set(done)
    assert len(done) < 50  # of those that were kept whole while they waited, some


@pytest.mark.parametrize("what", ["stream", "group"])
def test_a_deleted_stream_or_group_is_made_anew(
    bench: Bench, client: redis.Redis, what: str
) -> None:
    done: dict[str, list[str]] = defaultdict(list)

    @bench.on(Spread, name="deleted", ordered=True)
    def deleted(event: Spread) -> None:
        done[event.key].append(event.text)

    bench.start(threads=2)
    keys = [key_on(partition) for partition in range(4)]
    bench.logs.publish_many([spread(key, n) for n in range(5) for key in keys])
    bench.settled("deleted")
    entries = bench.keys.log("test.spread", "1").entries
    if what == "stream":
        client.delete(entries)
    else:
        client.xgroup_destroy(entries, "deleted")
    bench.logs.publish_many([spread(key, n) for n in range(5, 10) for key in keys])
    wait_until(lambda: all(texts[-1] == "9" for texts in done.values()), what=lambda: str(done))
    bench.settled("deleted")
    for partition in (0, 2, 3):
        assert done[key_on(partition)] == [str(n) for n in range(10)]
    assert done[key_on(1)][-5:] == [str(n) for n in range(5, 10)]


def test_what_waits_elsewhere_survives_the_loss_of_one_group(
    bench: Bench, client: redis.Redis
) -> None:
    """Entries of other partitions wait behind gates when one partition's group is lost."""
    ledger = Ledger()
    held = threading.Event()

    @bench.on(Spread, name="one_lost", ordered=True)
    def one_lost(event: Spread) -> None:
        with ledger.run(event):
            if event.text == "0":
                held.wait(20)

    bench.start(threads=8)
    keys = [key_on(partition) for partition in (0, 2, 3)]
    bench.logs.publish_many([spread(key, n) for n in range(10) for key in keys])
    wait_until(lambda: sum(ledger.running.values()) == 3)
    client.xgroup_destroy(bench.keys.log("test.spread", "1").entries, "one_lost")
    lost = key_on(1)
    bench.logs.publish_many([spread(lost, n) for n in range(1, 5)])
    wait_until(lambda: len(ledger.done[lost]) == 4)
    held.set()
    bench.settled("one_lost")
    ledger.check({key: [str(n) for n in range(10)] for key in keys})


def test_a_lost_owner_key_is_noticed(bench: Bench, client: redis.Redis) -> None:
    """Deleted by hand: the process finds that it does not own, and takes the partition again."""
    ledger = Ledger()

    @bench.on(Spread, name="unowned", ordered=True)
    def unowned(event: Spread) -> None:
        with ledger.run(event):
            pass

    bench.start(threads=2)
    key = key_on(3)
    bench.logs.publish_many([spread(key, n) for n in range(5)])
    bench.settled("unowned")
    client.delete(bench.keys.log("test.spread", "3").subscription("unowned").owner)
    bench.logs.publish_many([spread(key, n) for n in range(5, 10)])
    bench.settled("unowned")
    ledger.check({key: [str(n) for n in range(10)]})
    assert _owners(bench, client, "unowned")[3] == _me(bench)


def test_handed_back_entries_come_before_new_ones_whatever_the_servers_clock_did(
    bench: Bench, client: redis.Redis
) -> None:
    """Their ids lie in the future where the clock was set back: they are not due for a while."""
    done: list[str] = []
    key = key_on(0)
    log = bench.keys.log("test.spread", "0")
    source = log.subscription("clock")
    ahead_ms = int(time.time() * 1000) + 1_500

    @bench.on(Spread, name="clock", ordered=True, start="earliest")
    def clock(event: Spread) -> None:
        done.append(event.text)

    bench.logs.publish(spread(key, "first"))
    ((first_id, fields),) = client.xrange(log.entries)  # type: ignore[misc]
    client.xgroup_create(log.entries, "clock", "0")
    old = dict(fields)
    client.xadd(log.entries, old, id=f"{ahead_ms}-0")
    client.xreadgroup("clock", "gone", {log.entries: ">"}, count=2)
    client.xack(log.entries, "clock", first_id)
    client.xclaim(log.entries, "clock", "__free__", 0, [f"{ahead_ms}-0"])
    client.zadd(source.parked, {f"{ahead_ms}-0": ahead_ms})
    bench.logs.publish_many([spread(key, n) for n in range(3)])
    bench.start(threads=2)
    bench.settled("clock")
    assert done == ["first", "0", "1", "2"]


def test_ordered_and_unordered_code_side_by_side_lose_and_double_nothing(
    open_bench: OpenBench,
) -> None:
    """While a deployment goes on. There is no order, which is not promised then."""
    done: list[str] = []
    old, new = open_bench(), open_bench()
    for bench, ordered in ((old, False), (new, True)):

        @bench.on(Spread, name="mixed", ordered=ordered)
        def mixed(event: Spread) -> Echo:
            done.append(event.text)
            return Echo(ts_event=2, text=event.text)

        bench.start(threads=2)
    for n in range(0, 600, 20):
        new.logs.publish_many([spread(f"K{k % 7}", k) for k in range(n, n + 20)])
    wait_until(lambda: len(done) >= 600)
    new.settled("mixed")
    assert sorted(done, key=int) == [str(n) for n in range(600)]
    assert sorted((one.event.text for one in new.read(Echo)), key=int) == sorted(done, key=int)


def test_standing_by_costs_next_to_nothing(
    open_bench: OpenBench, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands of two processes of which one owns all and neither has anything to do."""
    monkeypatch.setattr(ordered_reader, "SHARE_S", 0.1)
    for bench in (open_bench(), open_bench()):

        @bench.on(Note, name="idle", ordered=True)
        def idle(event: Note) -> None: ...

        bench.start(threads=2)
    entries = bench.keys.log("test.note", "0").entries
    readers = lambda: [  # noqa: E731
        one for one in client.client_list() if str(one["name"]).startswith("streamatiq-intake")
    ]
    assert entries

    def both_wait() -> bool:
        found = readers()
        return len(found) == 2 and all(one["cmd"] == "xread" for one in found)

    wait_until(both_wait)
    before: Any = client.info("commandstats")
    threading.Event().wait(2.0)
    after: Any = client.info("commandstats")
    calls = sum(
        stats["calls"] - before.get(name, {"calls": 0})["calls"]
        for name, stats in after.items()
        if name.split("_")[1] not in ("info", "client|list")
    )
    assert calls <= 12, {name: stats["calls"] for name, stats in after.items()}
