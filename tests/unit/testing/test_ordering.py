"""`TestBroker` with ordered, conflating and batch handlers: the twin knows all of their scripts."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator

import pytest

from streamatiq import BatchFailed, Event, Partitioned, on
from streamatiq.testing import TestBroker, Twin


class Tick(Event, type="testing.tick", log=Partitioned(4)):
    number: int = 0


class Seen(Event, type="testing.seen", log=Partitioned(1)):
    number: int = 0


def ticks(count: int, first: int = 0) -> list[Tick]:
    return [Tick(ts_event=1, key=f"K{n % 5}", number=n) for n in range(first, first + count)]


@pytest.fixture
def broker() -> Iterator[TestBroker]:
    with TestBroker() as made:
        yield made


def test_ordered_with_failures(broker: TestBroker) -> None:
    done: dict[str, list[int]] = defaultdict(list)
    failed: set[int] = set()

    @on(Tick, name="ordered", ordered=True, min_backoff=5, max_backoff=10)
    def ordered(event: Tick) -> Seen:
        if event.number % 7 == 3 and event.number not in failed:
            failed.add(event.number)
            raise RuntimeError("once")
        done[event.key].append(event.number)
        return Seen(ts_event=2, key=event.key, number=event.number)

    broker.logs.publish_many(ticks(100))
    broker.run_until_idle(threads=4)
    assert done == {f"K{k}": list(range(k, 100, 5)) for k in range(5)}
    assert len(list(broker.logs.read(Seen))) == 100


def test_ordered_batches(broker: TestBroker) -> None:
    done: dict[str, list[int]] = defaultdict(list)
    failed: set[int] = set()

    @on(Tick, name="batches", ordered=True, batch=10, linger_ms=5, min_backoff=5, max_backoff=10)
    def batches(events: list[Tick]) -> None:
        bad = next((one for one in events if one.number == 42 and not failed), None)
        if bad is not None:
            failed.add(42)
            raise BatchFailed({one.id: ValueError() for one in events})
        for one in events:
            done[one.key].append(one.number)

    broker.logs.publish_many(ticks(100))
    broker.run_until_idle(threads=4)
    assert done == {f"K{k}": list(range(k, 100, 5)) for k in range(5)}


def test_conflating(broker: TestBroker) -> None:
    done: dict[str, list[int]] = defaultdict(list)

    @on(Tick, name="newest", conflate=True)
    def newest(event: Tick) -> None:
        time.sleep(0.002)
        done[event.key].append(event.number)

    broker.logs.publish_many(ticks(500))
    broker.run_until_idle()
    assert {key: numbers[-1] for key, numbers in done.items()} == {
        f"K{k}": 495 + k for k in range(5)
    }
    assert sum(map(len, done.values())) < 250


def test_two_processes_on_one_twin() -> None:
    lock = threading.Lock()
    done: dict[str, list[int]] = defaultdict(list)
    with Twin() as twin:
        brokers = [TestBroker(twin=twin), TestBroker(twin=twin)]
        for broker in brokers:

            @on(Tick, name="shared", ordered=True, broker=broker)
            def shared(event: Tick) -> None:
                with lock:
                    done[event.key].append(event.number)

        for turn in range(4):
            brokers[0].logs.publish_many(ticks(50, 50 * turn))
            brokers[turn % 2].run_until_idle()
        for broker in brokers:
            broker.close()
    assert done == {f"K{k}": list(range(k, 200, 5)) for k in range(5)}
