"""Batches that fail, hang, are stopped or killed; what they cost, and what they bring."""

from __future__ import annotations

import os
import threading
import time
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from dramatiq.middleware import TimeLimit
from tests.integration.logs.harness import Bench, Echo, Note, Spread, note, texts
from tests.integration.logs.ordering import OpenBench
from tests.support import dramatiq_workers, wait_until

from streamatiq import BatchFailed


def test_lingering_with_several_threads_loses_and_doubles_nothing(bench: Bench) -> None:
    seen: Counter[str] = Counter()
    sizes: list[int] = []
    lock = threading.Lock()

    @bench.on(Note, name="lingers", batch=7, linger_ms=20)
    def lingers(events: list[Note]) -> None:
        with lock:
            sizes.append(len(events))
            seen.update(one.text for one in events)
        time.sleep(0.002)

    bench.start(threads=4)
    for n in range(0, 300, 3):
        bench.logs.publish_many([note(n + k) for k in range(3)])
    bench.settled("lingers")
    assert seen == Counter(map(str, range(300)))
    assert max(sizes) == 7
    assert len(sizes) < 150


def test_a_stop_does_not_wait_for_what_lingers(bench: Bench) -> None:
    seen: list[str] = []

    @bench.on(Note, name="patient", batch=100, linger_ms=60_000)
    def patient(events: list[Note]) -> None:
        seen.extend(one.text for one in events)

    worker = bench.start()
    bench.logs.publish_many([note(n) for n in range(3)])
    buffer = bench.broker._consuming
    wait_until(
        lambda: (
            "patient" in buffer()._all()
            and buffer()._all()["patient"].view().buffer.handed_out == 3
        )
    )
    begun = time.monotonic()
    worker.stop()
    assert time.monotonic() - begun < 5
    if not seen:
        # Handed back: another process has it at once.
        with Bench(bench.broker.endpoint.url, bench.namespace) as other:
            other.on(Note, name="patient", batch=3)(lambda events: seen.extend(texts_of(events)))
            other.start()
            wait_until(lambda: len(seen) == 3)
    assert sorted(seen) == ["0", "1", "2"]


def texts_of(events: Any) -> list[str]:
    return [one.text for one in events]


def test_batch_failed_with_an_id_of_another_event_fails_the_whole_batch(bench: Bench) -> None:
    sizes: list[int] = []

    @bench.on(Note, name="wrong", batch=4, start="earliest", max_retries=1)
    def wrong(events: list[Note]) -> None:
        sizes.append(len(events))
        raise BatchFailed({uuid4(): ValueError("who?")})

    bench.logs.publish_many([note(n) for n in range(4)])
    bench.start(threads=1)
    bench.settled("wrong")
    letters = list(bench.broker.dead_letters("wrong"))
    assert sizes.count(1) == 8  # each alone, twice; the parts before depend on what was there
    assert len(letters) == 4
    assert all("none of the events of its batch" in letter.error for letter in letters)


@pytest.mark.parametrize(
    "options", [{"max_retries": 0}, {"throws": KeyError}, {"max_retries": 0, "throws": KeyError}]
)
def test_splitting_where_nothing_is_retried(bench: Bench, options: dict[str, Any]) -> None:
    done: list[str] = []
    alone = 0

    @bench.on(Note, name="once", batch=8, start="earliest", **options)
    def once(events: list[Note]) -> None:
        nonlocal alone
        if any(one.text in ("2", "7") for one in events):
            alone += len(events) == 1
            raise KeyError("bad")
        done.extend(one.text for one in events)

    bench.logs.publish_many([note(n) for n in range(8)])
    bench.start(threads=2)
    bench.settled("once")
    assert sorted(done) == ["0", "1", "3", "4", "5", "6"]
    letters = list(bench.broker.dead_letters("once"))
    assert len(letters) == 2
    assert alone == 2  # each was run alone, once
    assert all(letter.attempts == 1 for letter in letters)


def test_a_batch_beyond_its_time_limit_is_split_too(bench: Bench) -> None:
    done: list[str] = []

    @bench.on(Note, name="limited", batch=4, start="earliest", time_limit=300, max_retries=0)
    def limited(events: list[Note]) -> None:
        while any(one.text == "1" for one in events):
            time.sleep(0.01)
        done.extend(one.text for one in events)

    (limit,) = [one for one in bench.broker.middleware if isinstance(one, TimeLimit)]
    limit.after_process_boot(bench.broker)
    bench.logs.publish_many([note(n) for n in range(4)])
    bench.start(threads=2)
    bench.settled("limited", timeout_s=15)
    assert sorted(done) == ["0", "2", "3"]
    (letter,) = bench.broker.dead_letters("limited")
    assert "TimeLimitExceeded" in letter.error


@pytest.mark.parametrize("ordered", [False, True])
def test_a_stop_in_the_middle_of_failing_batches(open_bench: OpenBench, ordered: bool) -> None:
    runs: list[str] = []
    failing = threading.Event()
    failing.set()
    first, second = open_bench(), open_bench()
    for bench in (first, second):

        @bench.on(Spread, name="stops", batch=10, ordered=ordered, start="earliest")
        def stops(events: list[Spread]) -> list[Echo]:
            time.sleep(0.005)
            runs.append("run")
            if failing.is_set() and any(int(one.text) % 13 == 5 for one in events):
                raise RuntimeError("not yet")
            return [Echo(ts_event=2, key=one.key, text=one.text) for one in events]

    first.logs.publish_many([Spread(ts_event=1, key=f"K{n % 5}", text=str(n)) for n in range(400)])
    first.start(threads=4)
    wait_until(lambda: len(runs) > 10)
    first.stop()
    failing.clear()
    second.start(threads=4)
    second.settled("stops", timeout_s=20)
    found = texts(second.read(Echo))
    assert sorted(found, key=int) == [str(n) for n in range(400)]
    if ordered:
        for key in range(5):
            mine = [int(one) for one in found if int(one) % 5 == key]
            assert len(mine) == 80


_HANDLERS = """
import os, signal
from streamatiq import Event, Partitioned, default_broker, on

default_broker()

class Note(Event, type="test.note", log=Partitioned(1)):
    text: str = ""

class Echo(Event, type="test.echo", log=Partitioned(1)):
    text: str = ""

@on(Note, name="killed", batch=20, start="earliest")
def killed(events):
    for number, event in enumerate(events):
        flag = os.environ["FLAG"]
        if event.text == "250" and not os.path.exists(flag):
            open(flag, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    return [Echo(ts_event=2, text=event.text) for event in events]
"""


def test_a_kill_in_the_middle_of_a_batch_commits_each_event_once(
    bench: Bench, redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "batch_handlers.py").write_text(_HANDLERS)
    env = {
        "STREAMATIQ_REDIS__URL": redis_url,
        "STREAMATIQ_NAMESPACE": bench.namespace,
        "FLAG": str(tmp_path / "flag"),
    }

    @bench.on(Note, name="killed", batch=20, start="earliest")
    def killed(events: list[Note]) -> None:
        raise AssertionError("this process only looks")

    bench.logs.publish_many([note(n) for n in range(500)])

    def workers() -> Any:
        return dramatiq_workers("batch_handlers", env=env, cwd=tmp_path, ready_timeout_s=20)

    with workers() as one, workers():
        found = bench.echoes(500, timeout_s=20)
        bench.settled("killed")
        one.kill()
    assert os.path.exists(tmp_path / "flag")
    assert sorted(found, key=int) == [str(n) for n in range(500)]
    assert len(texts(bench.read(Echo))) == 500


@pytest.mark.parametrize("size", [300, 5_000])
def test_what_a_batch_emits_is_committed_with_all_of_its_events(
    bench: Bench, client: redis.Redis, size: int
) -> None:
    """In one call of the script, however large: else a crash could leave a part of it handled, and
    what was emitted for that part lost."""
    sizes: list[int] = []

    @bench.on(Note, name="whole", batch=size, linger_ms=10_000, time_limit=60_000)
    def whole(events: list[Note]) -> list[Echo]:
        sizes.append(len(events))
        return [Echo(ts_event=2, text=one.text) for one in events]

    bench.start(threads=1)
    for at in range(0, size, 100):
        bench.logs.publish_many([note(n) for n in range(at, at + 100)])
    bench.settled("whole", timeout_s=20)
    assert len(bench.read(Echo)) == size
    assert [one["done"] for one in bench.audit(client, Note, "whole")] == sizes


@pytest.mark.soak
def test_memory_stays_flat_over_many_batches(bench: Bench) -> None:
    done = 0

    @bench.on(Note, name="flat", batch=50, linger_ms=1)
    def flat(events: list[Note]) -> None:
        nonlocal done
        done += len(events)

    bench.start(threads=2)

    def work(count: int) -> None:
        wanted = done + count
        for _ in range(0, count, 500):
            bench.logs.publish_many([note("x" * 200) for _ in range(500)])
        wait_until(lambda: done >= wanted, 20)
        bench.settled("flat")

    work(2_000)
    tracemalloc.start()
    try:
        work(1_000)
        before, _ = tracemalloc.get_traced_memory()
        work(5_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 500_000, f"{after - before:,} bytes more"


@pytest.mark.soak
def test_batches_cost_less_than_single_events(
    open_bench: OpenBench, request: pytest.FixtureRequest
) -> None:
    """Not a measure of speed (see benchmarks), but of what a batch is for."""
    count = 6_000
    publisher = open_bench(event_bus={"max_queue_size": 0})
    for at in range(0, count, 500):
        publisher.logs.publish_many([note(n) for n in range(at, at + 500)])

    def rate(name: str, **options: Any) -> tuple[float, float]:
        seen: list[int] = []
        bench = open_bench(event_bus={"max_queue_size": 0})

        @bench.on(Note, name=name, start="earliest", **options)
        def handler(what: Any) -> None:
            seen.append(len(what) if options else 1)

        cpu, begun = time.process_time(), time.monotonic()
        bench.start(threads=8)
        wait_until(lambda: sum(seen) >= count, 25)
        cpu, took_s = time.process_time() - cpu, time.monotonic() - begun
        bench.stop()
        return cpu, took_s

    batch_cpu, batch_s = rate("batch", batch=100)
    single_cpu, single_s = rate("single")
    request.node.user_properties.append(
        (
            "figure",
            f"batch=100 against single events: {single_s / batch_s:.1f} times the throughput,"
            f" {batch_cpu / single_cpu:.2f} times the processor time",
        )
    )
    assert batch_cpu < single_cpu
