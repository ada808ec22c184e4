"""Audit records that the settle writes: what each level tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dramatiq
import redis
from dramatiq.middleware import Middleware, SkipMessage
from tests.integration.logs.harness import Bench, Echo, Note, Spread, note
from tests.support import wait_until

from streamatiq.broker.histogram import percentile_us


def _entries(records: list[dict[str, Any]]) -> list[list[Any]]:
    return [entry for record in records for entry in record["entries"]]


def test_full_records_tell_of_each_entry(
    open_bench: Callable[..., Bench], client: redis.Redis
) -> None:
    bench = open_bench(audit={"level": "full"})

    @bench.on(Note, name="full")
    def full(event: Note) -> list[Echo]:
        return [Echo(ts_event=2, text=event.text)] * (int(event.text) % 3)

    bench.start()
    events = [note(n) for n in range(6)]
    bench.logs.publish_many(events)
    bench.settled("full")
    records = bench.audit(client, Note, "full")
    entries = {entry[0]: entry for entry in _entries(records)}
    assert sum(record["n"] for record in records) == 6
    assert [record["batch"] for record in records] == sorted(record["batch"] for record in records)
    stored = {entry.event.id: entry for entry in bench.read(Note)}
    emitted = {entry.event.causation_id: [] for entry in bench.read(Echo)}
    for one in bench.read(Echo):
        emitted[one.event.causation_id].append(one.event.id.hex)
    for event in events:
        _, entry_id, outcome, attempt, published_us, *offsets, effects = entries[event.id.hex]
        assert entry_id == stored[event.id].entry_id
        assert (outcome, attempt) == ("done", 1)
        assert published_us == (stored[event.id].event.ts_published or 0) // 1000
        appended, claimed, started, done = offsets
        # Both times are cut off to us.
        assert stored[event.id].appended_us - published_us - appended in (0, 1)
        assert claimed <= started <= done < 10_000_000
        assert effects == emitted.get(event.id, [])
    for record in records:
        assert record["writer"].count(":") == 2
        assert record["done"] == record["n"] == sum(record["latency"].values())


def test_attempts_and_outcomes_of_a_retried_entry(
    open_bench: Callable[..., Bench], client: redis.Redis
) -> None:
    bench = open_bench(audit={"level": "full"})
    runs: list[int] = []

    @bench.on(Note, name="retried", max_retries=5)
    def retried(event: Note) -> None:
        runs.append(1)
        if len(runs) < 3:
            raise RuntimeError("again")

    bench.start()
    bench.logs.publish(note(""))
    wait_until(lambda: len(runs) == 3)
    bench.settled("retried")
    records = bench.audit(client, Note, "retried")
    assert [entry[2:4] for entry in _entries(records)] == [
        ["parked", 1],
        ["parked", 2],
        ["done", 3],
    ]
    # Latency is publish to the first start, whatever became of it.
    assert [sum(record["latency"].values()) for record in records] == [1, 0, 0]


def test_attempts_of_a_dead_letter(open_bench: Callable[..., Bench], client: redis.Redis) -> None:
    bench = open_bench(audit={"level": "full"})

    @bench.on(Note, name="dead", max_retries=1)
    def dead(event: Note) -> None:
        raise RuntimeError("always")

    bench.start()
    bench.logs.publish(note(""))
    bench.settled("dead")
    outcomes = [entry[2:4] for entry in _entries(bench.audit(client, Note, "dead"))]
    assert outcomes == [["parked", 1], ["dead_lettered", 2]]


def test_counts_are_sums_and_a_latency_histogram(bench: Bench, client: redis.Redis) -> None:
    @bench.on(Note, name="counts", max_retries=0)
    def counts(event: Note) -> Echo | None:
        if event.text == "3":
            raise RuntimeError("dead")
        return Echo(ts_event=2) if event.text == "4" else None

    bench.start()
    bench.logs.publish_many([note(n) for n in range(8)])
    bench.settled("counts")
    records = bench.audit(client, Note, "counts")
    assert all("entries" not in record for record in records)
    assert sum(record["n"] for record in records) == 8
    assert sum(record.get("done", 0) for record in records) == 7
    assert sum(record.get("dead_lettered", 0) for record in records) == 1
    assert sum(record["emitted"] for record in records) == 1
    histogram: dict[int, int] = {}
    for record in records:
        assert record["waited_us"] >= 0
        assert record["ran_us"] >= 0
        for at, count in record["latency"].items():
            histogram[int(at)] = histogram.get(int(at), 0) + count
    assert sum(histogram.values()) == 8
    assert 0 < (percentile_us(histogram, 50) or 0) < 10_000_000


def test_a_skipped_delivery_does_not_spoil_the_sums(
    open_bench: Callable[..., Bench], client: redis.Redis
) -> None:
    class Skips(Middleware):
        def before_process_message(
            self, broker: dramatiq.Broker, message: dramatiq.MessageProxy
        ) -> None:
            raise SkipMessage("not today")

    bench = open_bench(middleware=[Skips()])
    bench.on(Note, name="skipped")(lambda event: None)
    bench.start()
    bench.logs.publish(note(""))
    bench.settled("skipped")
    (record,) = bench.audit(client, Note, "skipped")
    assert record["n"] == 1
    assert record["ran_us"] == 0


def test_levels_by_type_and_off(open_bench: Callable[..., Bench], client: redis.Redis) -> None:
    bench = open_bench(audit={"level": "off", "overrides": {"test.note": "full"}})
    seen: list[str] = []
    bench.on(Note, Spread, name="levels")(lambda event: seen.append(event.text))
    bench.start()
    bench.logs.publish_many([note("n"), Spread(ts_event=1, text="s")])
    wait_until(lambda: len(seen) == 2)
    bench.settled("levels")
    assert len(_entries(bench.audit(client, Note, "levels"))) == 1
    part = bench.logs.part_of(Spread(ts_event=1))
    spread = bench.keys.log("test.spread", part).subscription("levels")
    assert client.exists(spread.audit) == 0
