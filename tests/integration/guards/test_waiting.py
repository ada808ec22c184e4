"""What a guard stops waits: in order, with no attempt burnt, without a busy loop."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Any

import dramatiq
import redis
from tests.integration.logs.harness import Bench, Note, Spread, note
from tests.support import wait_until

from streamatiq import BatchFailed, Breaker


def spread(key: str, text: object) -> Spread:
    return Spread(ts_event=1, key=key, text=str(text))


def calls(client: redis.Redis) -> int:
    stats: Any = client.info("commandstats")
    return sum(one["calls"] for name, one in stats.items() if name != "cmdstat_info")


def test_a_halted_key_waits_and_the_others_go_on_in_order(bench: Bench) -> None:
    done: dict[str, list[int]] = defaultdict(list)

    @bench.on(Spread, name="by_key", ordered=True)
    def by_key(event: Spread) -> None:
        done[event.key].append(int(event.text))

    bench.start(threads=4)
    bench.broker.halt(key="A", reason="test")
    for n in range(100):
        bench.logs.publish_many([spread("A", n), spread("B", n)])
    wait_until(lambda: len(done["B"]) == 100)
    assert done["A"] == []
    bench.broker.resume(key="A")
    bench.settled("by_key")
    assert done == {"A": list(range(100)), "B": list(range(100))}


def test_a_halted_key_of_an_unordered_subscription_waits(bench: Bench) -> None:
    done: dict[str, list[int]] = defaultdict(list)

    @bench.on(Spread, name="any_order")
    def any_order(event: Spread) -> None:
        done[event.key].append(int(event.text))

    bench.start(threads=1)
    bench.broker.halt("any_order", "A", reason="test")
    for n in range(50):
        bench.logs.publish_many([spread("A", n), spread("B", n)])
    wait_until(lambda: len(done["B"]) == 50)
    assert done["A"] == []
    bench.broker.resume("any_order", "A")
    bench.settled("any_order")
    assert sorted(done["A"]) == list(range(50))


def test_what_is_halted_as_a_whole_is_not_read(bench: Bench, client: redis.Redis) -> None:
    done: list[str] = []

    @bench.on(Note, name="whole")
    def whole(event: Note) -> None:
        done.append(event.text)

    @bench.on(Note, name="cancels", runs_when_halted=True)
    def cancels(event: Note) -> None:
        done.append("cancelled " + event.text)

    bench.start()
    bench.broker.halt(everything=True, reason="test")
    bench.logs.publish_many([note(n) for n in range(20)])
    bench.settled("cancels")
    assert len(done) == 20
    keys = bench.keys.log("test.note", "0").subscription("whole")

    def held() -> int:
        found: Any = client.xpending_range(keys.entries, "whole", "-", "+", 100)
        return sum(1 for one in found if one["consumer"] != b"__free__")

    wait_until(lambda: held() == 0, what="all to be handed back")
    before = calls(client)
    threading.Event().wait(1.0)  # time itself is what is looked at: how much is asked in it
    assert calls(client) - before < 15
    bench.broker.resume(everything=True)
    bench.settled("whole")
    assert sorted(done[20:], key=int) == [str(n) for n in range(20)]


def test_an_open_breaker_keeps_the_order_and_burns_no_attempt(bench: Bench) -> None:
    done: list[int] = []
    tries: list[int] = []
    down = threading.Event()
    down.set()
    breaker = Breaker(failure_threshold=2, reset_time_s=0.1)

    @bench.on(Spread, name="venue", ordered=True, breaker=breaker, max_retries=8)
    def venue(event: Spread) -> None:
        tries.append(int(event.text))
        if down.is_set():
            raise ConnectionError("down")
        done.append(int(event.text))

    bench.start(threads=4)
    bench.logs.publish_many([spread("A", n) for n in range(30)])
    wait_until(lambda: bench.broker.breakers() != [] and len(tries) >= 4)
    down.clear()
    bench.settled("venue")
    assert done == list(range(30))
    assert list(bench.broker.dead_letters("venue")) == []


def test_a_breaker_by_key_stops_its_key_alone(bench: Bench) -> None:
    done: dict[str, list[int]] = defaultdict(list)
    down = {"A"}

    @bench.on(
        Spread,
        name="venues",
        ordered=True,
        breaker=Breaker(failure_threshold=1, reset_time_s=0.2),
        breaker_key=lambda event: f"venue:{event.key}",
        max_retries=50,
    )
    def venues(event: Spread) -> None:
        if event.key in down:
            raise ConnectionError("down")
        done[event.key].append(int(event.text))

    bench.start(threads=2)
    for n in range(40):
        bench.logs.publish_many([spread("A", n), spread("B", n)])
    wait_until(lambda: len(done["B"]) == 40)
    assert done["A"] == []
    down.clear()
    bench.settled("venues")
    assert done["A"] == list(range(40))


def test_a_breaker_of_one_actor_leaves_the_others_of_its_queue_alone(bench: Bench) -> None:
    from streamatiq import CircuitBreaker

    bench.broker.add_middleware(CircuitBreaker())
    done: list[str] = []

    @dramatiq.actor(broker=bench.broker, breaker=True)
    def stopped(n: int) -> None:
        done.append(f"stopped {n}")

    @dramatiq.actor(broker=bench.broker)
    def free(n: int) -> None:
        done.append(f"free {n}")

    bench.start(threads=2)
    bench.broker.open_breaker("stopped", reason="test")
    wait_until(lambda: bench.broker.guards is not None and not bench.broker.guards.quiet)
    for n in range(20):
        stopped.send(n)
        free.send(n)
    wait_until(lambda: len(done) == 20)
    assert all(one.startswith("free") for one in done)
    bench.broker.close_breaker("stopped", reason="test")
    bench.settled("default")
    assert sorted(done[20:]) == sorted(f"stopped {n}" for n in range(20))


def test_a_batch_is_stopped_event_by_event(bench: Bench) -> None:
    done: list[str] = []

    @bench.on(Spread, name="batched", batch=10, start="earliest")
    def batched(events: list[Spread]) -> None:
        done.extend(event.key + event.text for event in events)

    bench.broker.halt(key="A", reason="test")
    bench.logs.publish_many([spread(key, n) for n in range(20) for key in "AB"])
    bench.start(threads=2)
    wait_until(lambda: len(done) == 20)
    assert all(one.startswith("B") for one in done)
    bench.broker.resume(key="A")
    bench.settled("batched")
    assert sorted(done[20:]) == sorted(f"A{n}" for n in range(20))


def test_failures_of_a_batch_open_its_breaker(bench: Bench) -> None:
    runs: list[int] = []

    @bench.on(Spread, name="b", batch=4, breaker=Breaker(failure_threshold=3, reset_time_s=60))
    def b(events: list[Spread]) -> None:
        runs.append(len(events))
        raise BatchFailed({events[0].id: ConnectionError("down")})

    bench.start(threads=1)
    for n in range(3):
        bench.logs.publish_many([spread("A", 4 * n + m) for m in range(4)])
    wait_until(lambda: [one.state for one in bench.broker.breakers()] == ["open"])
