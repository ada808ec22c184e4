"""Ordered subscriptions: the events of a key run one by one, in the order of the log."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import closing
from typing import Any

import pytest
import redis
from tests.integration.logs.harness import Bench, Note, Spread, note
from tests.integration.logs.ordering import Ledger, OpenBench, spread
from tests.support import wait_until

from streamatiq.broker.connections import Link
from streamatiq.broker.identity import Identity
from streamatiq.broker.reclaimer import Reclaimer


def test_events_of_a_key_run_one_by_one_and_in_order(bench: Bench) -> None:
    ledger = Ledger()
    keys = [f"K{n}" for n in range(7)]

    @bench.on(Spread, name="in_order", ordered=True)
    def in_order(event: Spread) -> None:
        ledger.begin(event.key)
        time.sleep(0.0005)  # so that runs would overlap
        ledger.end(event.key, event.text)

    bench.start(threads=8)
    events = [spread(keys[n % 7], n) for n in range(700)]
    for at in range(0, 700, 50):
        bench.logs.publish_many(events[at : at + 50])
    bench.settled("in_order")
    assert not ledger.overlaps
    for place, key in enumerate(keys):
        assert ledger.done[key] == [str(n) for n in range(place, 700, 7)]
    assert ledger.most_at_once > 1  # keys run side by side


def test_a_retry_holds_up_its_key_alone(bench: Bench) -> None:
    done: list[tuple[str, str]] = []
    failures = {"A1": 3}

    @bench.on(Spread, name="parks", ordered=True)
    def parks(event: Spread) -> None:
        name = event.key + event.text
        if failures.get(name, 0):
            failures[name] -= 1
            raise RuntimeError("not yet")
        done.append((event.key, event.text))

    bench.start(threads=4)
    for n in range(1, 60):
        bench.logs.publish_many([spread("A", n), spread("B", n)])
    bench.settled("parks")
    assert [text for key, text in done if key == "A"] == [str(n) for n in range(1, 60)]
    assert [text for key, text in done if key == "B"] == [str(n) for n in range(1, 60)]
    assert failures == {"A1": 0}


def test_a_dead_letter_lets_its_key_go_on(bench: Bench) -> None:
    done: list[str] = []

    @bench.on(Spread, name="dies", ordered=True, max_retries=1)
    def dies(event: Spread) -> None:
        if event.text == "2":
            raise RuntimeError("never")
        done.append(event.text)

    bench.start()
    bench.logs.publish_many([spread("A", n) for n in range(1, 6)])
    bench.settled("dies")
    assert done == ["1", "3", "4", "5"]
    assert len(list(bench.broker.dead_letters("dies"))) == 1


def test_two_processes_share_the_partitions(open_bench: OpenBench) -> None:
    ledger = Ledger()
    where: dict[str, set[int]] = defaultdict(set)

    def declare(bench: Bench, number: int) -> None:
        @bench.on(Spread, name="shared", ordered=True)
        def shared(event: Spread) -> None:
            ledger.begin(event.key)
            time.sleep(0.001)
            where[Bench.__name__ + str(number)].add(number)
            ledger.end(event.key, event.text)

    first, second = open_bench(), open_bench()
    declare(first, 1)
    declare(second, 2)
    first.start(threads=4)
    keys = [f"K{n}" for n in range(16)]
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        first.logs.publish_many([spread(keys[n % 16], n) for n in range(sent, sent + count)])
        sent += count

    send(400)
    second.start(threads=4)
    for _ in range(20):
        send(100)
        wait_until(lambda: ledger.count >= sent - 200, what=lambda: f"{ledger.count} of {sent}")
    wait_until(lambda: len(where) == 2, what="both to work")
    second.stop()  # and the first one gets all back
    send(400)
    first.settled("shared")
    assert not ledger.overlaps
    for place, key in enumerate(keys):
        assert ledger.done[key] == [str(n) for n in range(place, sent, 16)]


def test_a_single_thread_sees_the_log_in_its_order(bench: Bench) -> None:
    seen: list[int] = []

    @bench.on(Note, name="single", ordered=True, start="earliest")
    def single(event: Note) -> None:
        seen.append(int(event.text))

    for at in range(0, 300, 60):
        bench.logs.publish_many([note(n, key=f"K{n % 7}") for n in range(at, at + 60)])
    bench.start(threads=1)
    bench.settled("single")
    assert seen == list(range(300))


@pytest.mark.soak
def test_order_costs_little(open_bench: OpenBench, request: pytest.FixtureRequest) -> None:
    """Processor time an event, of ordered handling against unordered, from a backlog of 16 keys."""
    count = 6_000
    no_limit: dict[str, Any] = {"event_bus": {"max_queue_size": 0}}
    publisher = open_bench(**no_limit)
    for at in range(0, count, 500):
        publisher.logs.publish_many([spread(f"K{n % 16}", n) for n in range(at, at + 500)])

    def cpu_s(name: str, ordered: bool) -> tuple[float, float]:
        bench = open_bench(**no_limit)
        seen: list[str] = []

        @bench.on(Spread, name=name, ordered=ordered, start="earliest")
        def handler(event: Spread) -> None:
            seen.append(event.text)

        cpu, wall = time.process_time(), time.monotonic()
        bench.start(threads=8)
        wait_until(lambda: len(seen) >= count, 25)
        found = time.process_time() - cpu, time.monotonic() - wall
        bench.stop()
        return found

    unordered_cpu, unordered_s = cpu_s("plain", False)
    ordered_cpu, ordered_s = cpu_s("in_order", True)
    request.node.user_properties.append(
        (
            "figure",
            f"ordered against unordered (8 threads, 16 keys): {unordered_s / ordered_s:.2f} times"
            f" the throughput, {ordered_cpu / unordered_cpu:.2f} times the processor time",
        )
    )
    assert ordered_cpu < 3 * unordered_cpu


def test_claimants_are_woken_once_a_dead_one_is_off_the_list(
    bench: Bench, client: redis.Redis
) -> None:
    """Woken by what it held alone, they could look before, and leave it its share for a minute."""
    members, dead = bench.keys.members, "host:1:dead"
    client.hset(members.alive, dead, "1 - 0 ")
    client.hset(members.reads(dead), "shared", "[]")
    client.hset(members.claimants("shared"), dead, "1")
    reclaimer = Reclaimer(members, Identity(), list, max_deliveries=5)
    with closing(Link(bench.broker.endpoint)) as link:
        reclaimer.reclaim(link, dead, fence=True)
    assert not client.hexists(members.alive, dead)
    assert not client.hexists(members.claimants("shared"), dead)
    assert client.xlen(members.shift("shared")) == 1
