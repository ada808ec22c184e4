"""The recording's quotes at its peak rate through a slow handler that conflates."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.integration.end_to_end.recording import ticks
from tests.integration.faults.fleet import QUICK
from tests.integration.logs.harness import Bench
from tests.support import dramatiq_workers, wait_until

from streamatiq import Event, Partitioned

#: Most messages of the recording in one second.
PEAK_PER_S = 5_800
#: What the slow handler takes, seconds.
SLOW_S = 0.02
THREADS = 2


class Quoted(Event, type="recorded.quoted", log=Partitioned(4)):
    """A quote: its place among those of its instrument, and its numbers."""

    number: int = 0
    numbers: tuple[str, ...] = ()


@pytest.fixture
def open_bench(redis_url: str, namespace: str) -> Iterator[Callable[..., Bench]]:
    opened: list[Bench] = []

    def open_one() -> Bench:
        settings: dict[str, Any] = {
            "audit": {"level": "full"},
            "event_bus": {"max_queue_size": 0},
        }
        opened.append(Bench(redis_url, namespace, **settings))
        return opened[-1]

    yield open_one
    for one in reversed(opened):
        one.stop()


def _quotes(limit: int) -> list[Quoted]:
    count: Counter[str] = Counter()
    quotes = []
    for tick in ticks(limit):
        if len(tick.numbers) == 4:
            quotes.append(
                Quoted(ts_event=1, key=tick.key, number=count[tick.key], numbers=tick.numbers)
            )
            count[tick.key] += 1
    return quotes


def _publish(bench: Bench, quotes: list[Quoted], rate: int) -> float:
    """At so many a second, in bursts of 20 ms; seconds that it took."""
    begun = time.monotonic()
    never = threading.Event()
    burst = rate // 50
    for nth, at in enumerate(range(0, len(quotes), burst)):
        bench.logs.publish_many(quotes[at : at + burst])
        never.wait(max(0.0, begun + (nth + 1) * 0.02 - time.monotonic()))
    return time.monotonic() - begun


def _outcomes(bench: Bench, client: redis.Redis, name: str) -> dict[str, Counter[str]]:
    """By instrument, from the audit: how many quotes ended how, each counted once."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for part in range(4):
        log = bench.keys.log("recorded.quoted", str(part))
        entries: Any = client.xrange(log.entries)
        keys = {one.decode(): json.loads(fields[b"d"])["key"] for one, fields in entries}
        records: Any = client.xrange(log.subscription(name).audit)
        for _, fields in records:
            for entry in json.loads(fields[b"r"])["entries"]:
                found[keys[entry[1]]][entry[2]] += 1
    return found


def test_staleness_stays_bounded_and_every_skipped_quote_is_counted(
    open_bench: Callable[[], Bench], client: redis.Redis, request: pytest.FixtureRequest
) -> None:
    quotes = _quotes(22_000)
    published = Counter(one.key for one in quotes)
    bench = open_bench()
    handled: dict[str, list[int]] = defaultdict(list)
    stale_ms: dict[str, list[float]] = defaultdict(list)
    lock = threading.Lock()

    @bench.on(Quoted, name="slow", conflate=True)
    def slow(event: Quoted) -> None:
        assert event.ts_published is not None
        with lock:
            stale_ms[event.key].append((time.time_ns() - event.ts_published) / 1e6)
            handled[event.key].append(event.number)
        time.sleep(SLOW_S)

    bench.start(threads=THREADS)
    took_s = _publish(bench, quotes, PEAK_PER_S)
    bench.settled("slow")
    outcomes = _outcomes(bench, client, "slow")
    everything = sorted(one for each in stale_ms.values() for one in each)
    worst = {key: max(each) for key, each in stale_ms.items()}
    request.node.user_properties.append(
        (
            "figure",
            f"conflation: {len(quotes):,} quotes at {len(quotes) / took_s:,.0f}/s, a handler of"
            f" {SLOW_S * 1000:.0f} ms in {THREADS} threads: {len(everything):,} handled, age at its"
            f" start p50 {statistics.median(everything):.0f} ms, p99"
            f" {everything[int(len(everything) * 0.99)]:.0f} ms, worst of an instrument"
            f" {max(worst.values()):.0f} ms",
        )
    )
    for key, count in published.items():
        assert outcomes[key]["done"] + outcomes[key]["conflated"] == count
        assert set(outcomes[key]) <= {"done", "conflated"}
        assert outcomes[key]["done"] == len(handled[key])
        assert handled[key] == sorted(set(handled[key])), "backwards"
        assert handled[key][-1] == count - 1, "the newest was not handled"
    # It could handle 100 a second; without conflation the last would be minutes old.
    assert len(everything) < len(quotes) / 10
    # Not how old the worst was: that is a figure, for it depends on what else the machine does.


_HANDLERS = """
import json, os, time
from importlib import import_module
from streamatiq import Event, Partitioned, default_broker, on

for name, value in json.loads(os.environ["CONSTANTS"]).items():
    module, _, constant = name.rpartition(".")
    setattr(import_module("streamatiq.broker." + module), constant, value)

default_broker()
ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

class Quoted(Event, type="recorded.quoted", log=Partitioned(4)):
    number: int = 0
    numbers: tuple[str, ...] = ()

@on(Quoted, name="slow", conflate=True, start="earliest")
def slow(event):
    os.write(ledger, f"{event.key} {event.number} {os.getpid()}\\n".encode())
    time.sleep(0.02)
"""


@pytest.mark.soak
def test_the_newest_is_handled_although_a_process_is_killed(
    open_bench: Callable[[], Bench],
    client: redis.Redis,
    redis_url: str,
    namespace: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "conflating_handlers.py").write_text(_HANDLERS)
    ledger = tmp_path / "ledger"
    ledger.touch()
    quotes = _quotes(14_000)
    published = Counter(one.key for one in quotes)
    bench = open_bench()
    env = {
        "STREAMATIQ_REDIS__URL": redis_url,
        "STREAMATIQ_NAMESPACE": namespace,
        "STREAMATIQ_AUDIT__LEVEL": "full",
        "LEDGER": str(ledger),
        "CONSTANTS": json.dumps(QUICK),
    }

    @bench.on(Quoted, name="slow", conflate=True, start="earliest")
    def slow(event: Quoted) -> None:
        raise AssertionError("this process only looks")

    def workers() -> Any:
        return dramatiq_workers("conflating_handlers", env=env, cwd=tmp_path, threads=THREADS)

    with workers() as one, workers():
        publishing = threading.Thread(target=_publish, args=(bench, quotes, PEAK_PER_S))
        publishing.start()
        wait_until(lambda: ledger.stat().st_size > 500)
        one.kill_worker()
        publishing.join()
        bench.settled("slow", timeout_s=15)
        one.kill()
    outcomes = _outcomes(bench, client, "slow")
    handled: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for line in ledger.read_text().splitlines():
        key, number, pid = line.split()
        handled[key].append((int(number), int(pid)))
    for key, count in published.items():
        assert outcomes[key]["done"] + outcomes[key]["conflated"] == count
        assert handled[key][-1][0] == count - 1, "the newest was not handled"
        for (before, who), (number, by) in zip(handled[key], handled[key][1:], strict=False):
            assert number > before or (number == before and who != by), "backwards"
