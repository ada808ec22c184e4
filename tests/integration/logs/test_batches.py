"""Handlers of batches: sizes, lingering, partial failure, splitting, emits."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest
from tests.integration.logs.harness import Bench, Echo, Note, Spread, note
from tests.support import wait_until

from streamatiq import BatchFailed, Event, emit


def test_a_handler_gets_what_is_there_at_most_a_batch(bench: Bench) -> None:
    sizes: list[int] = []
    texts: list[str] = []

    @bench.on(Note, name="batched", batch=25, start="earliest")
    def batched(events: list[Note]) -> None:
        sizes.append(len(events))
        texts.extend(one.text for one in events)

    bench.logs.publish_many([note(n) for n in range(240)])
    bench.start(threads=1)
    bench.settled("batched")
    assert texts == [str(n) for n in range(240)]
    assert max(sizes) == 25
    assert len(sizes) < 60


def test_lingering_fills_a_batch(bench: Bench) -> None:
    sizes: list[int] = []

    @bench.on(Note, name="lingers", batch=10, linger_ms=5_000)
    def lingers(events: Sequence[Note]) -> None:
        sizes.append(len(events))

    bench.start(threads=2)
    begun = time.monotonic()
    for n in range(10):
        bench.logs.publish(note(n))
    bench.settled("lingers")
    assert sizes == [10]
    assert time.monotonic() - begun < 5  # a full one does not wait


def test_a_lingering_batch_goes_when_its_time_has_come(bench: Bench) -> None:
    sizes: list[int] = []

    @bench.on(Note, name="goes", batch=10, linger_ms=50)
    def goes(events: list[Note]) -> None:
        sizes.append(len(events))

    bench.start(threads=2)
    bench.logs.publish_many([note(n) for n in range(3)])
    bench.settled("goes")
    assert sum(sizes) == 3


def test_batch_failed_retries_just_those(bench: Bench) -> None:
    seen: list[str] = []
    lock = threading.Lock()

    @bench.on(Note, name="partly", batch=10, start="earliest", max_retries=5)
    def partly(events: list[Note]) -> list[Echo]:
        with lock:
            first = {one.text for one in events if one.text not in seen}
            seen.extend(one.text for one in events)
        bad = {
            one.id: ValueError("no")
            for one in events
            if one.text in ("3", "7") and one.text in first
        }
        for one in events:
            emit(Echo(ts_event=1, text=one.text), cause=one)
        if bad:
            raise BatchFailed(bad)
        return []

    bench.logs.publish_many([note(n) for n in range(10)])
    bench.start()
    bench.settled("partly")
    assert sorted(seen) == sorted([*map(str, range(10)), "3", "7"])
    assert sorted(one.event.text for one in bench.read(Echo)) == sorted(map(str, range(10)))


def test_a_batch_that_fails_is_split_until_the_guilty_one_is_alone(bench: Bench) -> None:
    done: list[str] = []

    @bench.on(Note, name="split", batch=16, start="earliest", max_retries=1)
    def split(events: list[Note]) -> None:
        if any(one.text == "5" for one in events):
            raise RuntimeError("bad")
        done.extend(one.text for one in events)

    bench.logs.publish_many([note(n) for n in range(16)])
    bench.start()
    bench.settled("split")
    assert sorted(done, key=int) == [str(n) for n in range(16) if n != 5]
    (letter,) = bench.broker.dead_letters("split")
    assert letter.attempts == 2


def test_an_ordered_batch_keeps_the_order_of_keys(bench: Bench) -> None:
    done: dict[str, list[str]] = {"A": [], "B": []}
    failed: list[str] = []

    @bench.on(Spread, name="both", batch=8, ordered=True, start="earliest")
    def both(events: list[Spread]) -> None:
        if any(one.text == "9" for one in events) and len(failed) < 3:
            failed.append("9")
            raise RuntimeError("not yet")
        for one in events:
            done[one.key].append(one.text)

    bench.logs.publish_many(
        [Spread(ts_event=1, key=key, text=str(n)) for n in range(40) for key in "AB"]
    )
    bench.start(threads=4)
    bench.settled("both")
    assert done == {"A": [str(n) for n in range(40)], "B": [str(n) for n in range(40)]}


def test_conflation_skips_to_the_newest_of_each_key(bench: Bench) -> None:
    seen: list[tuple[str, int]] = []
    gate = threading.Event()

    @bench.on(Spread, name="latest", conflate=True)
    def latest(event: Spread) -> None:
        seen.append((event.key, int(event.text)))
        gate.wait(10)

    bench.start(threads=2)
    bench.logs.publish_many([Spread(ts_event=1, key=key, text="0") for key in "AB"])
    wait_until(lambda: len(seen) == 2)
    for n in range(1, 200):
        bench.logs.publish_many([Spread(ts_event=1, key=key, text=str(n)) for key in "AB"])
    conflated = bench.keys
    assert conflated
    wait_until(
        lambda: bench.broker.backlog("latest") <= 4,
        what=lambda: str(bench.broker.backlog("latest")),
    )
    gate.set()
    bench.settled("latest")
    assert sorted(seen) == [("A", 0), ("A", 199), ("B", 0), ("B", 199)]


def test_what_is_too_old_is_not_handled(bench: Bench) -> None:
    seen: list[str] = []

    @bench.on(Note, name="fresh", valid_for_ms=60_000, start="earliest")
    def fresh(event: Note) -> None:
        seen.append(event.text)

    bench.logs.publish(note("own", valid_for_ms=1))
    wait_until(lambda: time.time_ns() > (bench.read(Note)[0].event.ts_published or 0) + 2_000_000)
    bench.logs.publish(note("good"))
    bench.start()
    bench.settled("fresh")
    assert seen == ["good"]


def test_a_transform_maps_and_leaves_out(bench: Bench) -> None:
    seen: list[str] = []

    def only_even(event: Note) -> Echo | None:
        return Echo(ts_event=1, text=event.text) if int(event.text) % 2 == 0 else None

    @bench.on(Note, name="mapped", transform=only_even)
    def mapped(event: Echo) -> None:
        assert isinstance(event, Event)
        seen.append(event.text)

    bench.start()
    bench.logs.publish_many([note(n) for n in range(6)])
    bench.settled("mapped")
    assert sorted(seen) == ["0", "2", "4"]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "10"])
def test_a_wrong_size_is_refused(bench: Bench, wrong: object) -> None:
    with pytest.raises(TypeError, match="batch is"):
        bench.on(Note, name="wrong", batch=wrong)(lambda events: None)


def test_a_batch_with_business_keys_that_fails_is_split_and_frees_its_keys(bench: Bench) -> None:
    done: list[str] = []
    failed: list[int] = []

    @bench.on(
        Note,
        name="keyed",
        batch=8,
        start="earliest",
        max_retries=1,
        idempotency_key=lambda event: event.text,
        on_uncertain="dead_letter",
    )
    def keyed(events: list[Note]) -> None:
        if any(one.text == "5" for one in events):
            failed.append(len(events))
            raise RuntimeError("bad")
        done.extend(one.text for one in events)

    bench.logs.publish_many([note(n) for n in range(8)] + [note(n) for n in range(8)])
    bench.start()
    bench.settled("keyed", timeout_s=20)
    assert sorted(done, key=int) == [str(n) for n in range(8) if n != 5]
    letters = list(bench.broker.dead_letters("keyed"))
    assert {one.cause for one in letters} == {"failed"}
    assert failed[0] > 1
    assert 1 in failed


def test_a_duplicate_leaves_its_batch(bench: Bench) -> None:
    batches: list[list[str]] = []

    @bench.on(
        Note, name="once", batch=10, start="earliest", idempotency_key=lambda event: event.text
    )
    def once(events: list[Note]) -> None:
        batches.append([one.text for one in events])

    bench.logs.publish_many([note(n % 5) for n in range(10)])
    bench.start(threads=1)
    bench.settled("once")
    assert sorted(text for batch in batches for text in batch) == [str(n) for n in range(5)]
