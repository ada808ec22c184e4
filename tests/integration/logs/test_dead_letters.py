"""Dead letters of subscriptions: an event that is put back runs once more, for that one alone."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import redis
from tests.integration.logs.harness import Bench, Echo, Note, Spread, note, texts
from tests.support import CuttingProxy, wait_until

from streamatiq import RedisStreamsBroker
from streamatiq.broker import DeadLetterFilter, current_delivery
from streamatiq.broker.calls import script
from streamatiq.broker.keys import SourceKeys

ALL = DeadLetterFilter()


def _keys(bench: Bench, name: str) -> SourceKeys:
    return bench.keys.log("test.note", "0").subscription(name)


def _attempt() -> int:
    delivery = current_delivery.get()
    assert delivery is not None
    return delivery.attempt


class Flaky:
    """A handler that fails until it is told to work, and then emits."""

    def __init__(self, bench: Bench, name: str, *classes: Any, max_retries: int = 1) -> None:
        self.works = threading.Event()
        self.runs: list[tuple[str, int]] = []

        @bench.on(*(classes or (Note,)), name=name, max_retries=max_retries)
        def handler(event: Any) -> Echo:
            self.runs.append((event.text, _attempt()))
            if not self.works.is_set():
                raise RuntimeError(f"no {event.text}")
            return Echo(ts_event=2, text=f"{name} {event.text}")


def test_a_requeued_event_runs_once_more_for_its_subscription_alone(
    bench: Bench, client: redis.Redis
) -> None:
    flaky = Flaky(bench, "flaky")
    others: list[str] = []
    bench.on(Note, name="other")(lambda event: others.append(event.text))
    bench.start()
    bench.logs.publish_many([note("a"), note("b")])
    bench.settled("flaky", "other")
    keys = _keys(bench, "flaky")
    event_ids = [entry.event.id.bytes for entry in bench.read(Note)]
    assert client.hmget(keys.done, event_ids) == [b"1", b"1"]
    letters = {(one.body() or {})["text"]: one for one in bench.broker.dead_letters("flaky")}
    first, second = letters["a"], letters["b"]
    assert (first.id, first.subject) == (f"test.note:0/{first.dead_id}", "test.note")
    assert first.event_id == event_ids[0]
    flaky.works.set()
    flaky.runs.clear()
    tally = bench.broker.requeue_dead_letters("flaky", DeadLetterFilter(ids=[first.id]), by="me@x")
    assert tally == Counter(requeued=1)
    assert bench.echoes(1) == ["flaky a"]
    bench.settled("flaky", "other")
    assert flaky.runs == [("a", 1)]
    assert sorted(others) == ["a", "b"]
    assert texts(bench.read(Echo)) == ["flaky a"]
    assert [letter.id for letter in bench.broker.dead_letters("flaky")] == [second.id]
    # It counts as handled again, and nothing of it is left over.
    assert client.hmget(keys.done, event_ids) == [b"1", b"1"]
    assert client.zcard(keys.parked) == client.hlen(keys.options) == 0
    (record,) = (one for one in bench.audit(client, Note, "flaky") if "action" in one)
    assert (record["action"], record["writer"]) == ("requeue", "me@x")
    assert (record["letter"], record["entry"]) == (first.dead_id, first.entry_id)


def test_a_requeued_event_that_fails_again_has_all_its_retries(bench: Bench) -> None:
    flaky = Flaky(bench, "again", max_retries=2)
    bench.start()
    bench.logs.publish(note("x"))
    bench.settled("again")
    (before,) = bench.broker.dead_letters("again")
    bench.broker.requeue_dead_letters("again", ALL)
    wait_until(lambda: len(flaky.runs) == 6)
    bench.settled("again")
    assert [attempt for _, attempt in flaky.runs] == [1, 2, 3, 1, 2, 3]
    (after,) = bench.broker.dead_letters("again")
    assert after.attempts == 3
    assert (after.entry_id, after.digest) == (before.entry_id, before.digest)
    assert after.id != before.id


def test_an_idle_reader_is_woken(bench: Bench, client: redis.Redis) -> None:
    flaky = Flaky(bench, "idle")
    bench.start()
    bench.logs.publish(note("x"))
    bench.settled("idle")
    flaky.works.set()
    wake = _keys(bench, "idle").wake

    def woken() -> int:
        info: Any = client.xinfo_stream(wake) if client.exists(wake) else {"entries-added": 0}
        return int(info["entries-added"])

    before = woken()
    bench.broker.requeue_dead_letters("idle", ALL)
    assert woken() > before
    assert bench.echoes(1, timeout_s=2) == ["idle x"]


def test_an_event_whose_worker_died_five_times_has_five_lives_again(
    bench: Bench, client: redis.Redis
) -> None:
    seen: list[str] = []
    bench.on(Note, name="killed")(lambda event: seen.append(event.text))
    worker = bench.start()
    bench.logs.publish(note("before"))
    wait_until(lambda: seen == ["before"])
    bench.settled("killed")
    worker.stop()
    keys = _keys(bench, "killed")
    bench.logs.publish(note("killer"))
    entry_id = bench.read(Note)[-1].entry_id
    # As after five deaths: delivered five times, then dead-lettered and acked.
    client.xreadgroup("killed", "dead:1:a", {keys.entries: ">"})
    client.xclaim(keys.entries, "killed", "dead:1:a", 0, [entry_id], retrycount=5, justid=True)
    client.xack(keys.entries, "killed", entry_id)
    raw: Any = client.xrange(keys.entries, entry_id)
    client.xadd(
        keys.dead,
        {
            "source": "log:test.note:0",
            "entry": entry_id,
            "data": raw[0][1][b"d"],
            "cause": "killed_worker",
        },
    )
    assert bench.broker.requeue_dead_letters("killed", ALL) == Counter(requeued=1)
    (held,) = client.xpending_range(keys.entries, "killed", "-", "+", 10)  # type: ignore[misc]
    assert (held["consumer"], held["times_delivered"]) == (b"__free__", 0)
    bench.start()
    wait_until(lambda: seen[-1:] == ["killer"])


def test_an_event_that_its_log_has_not_any_more_keeps_its_letter(
    bench: Bench, client: redis.Redis
) -> None:
    Flaky(bench, "late")
    bench.start()
    bench.logs.publish_many([note("a"), note("b")])
    bench.settled("late")
    first, second = sorted(bench.broker.dead_letters("late"), key=lambda one: one.entry_id)
    client.xtrim(_keys(bench, "late").entries, minid=second.entry_id, approximate=False)
    told: dict[str, str] = {}
    tally = bench.broker.requeue_dead_letters("late", ALL, on_outcome=told.__setitem__)
    assert tally == Counter(trimmed=1, requeued=1)
    assert told == {first.id: "trimmed", second.id: "requeued"}
    assert first.id in [letter.id for letter in bench.broker.dead_letters("late")]


def test_without_its_group_or_while_it_is_pending_a_letter_stays(
    bench: Bench, client: redis.Redis
) -> None:
    Flaky(bench, "rewound")
    worker = bench.start()
    bench.logs.publish(note("a"))
    bench.settled("rewound")
    worker.stop()
    keys = _keys(bench, "rewound")
    client.xgroup_setid(keys.entries, "rewound", "0")
    client.xreadgroup("rewound", "someone", {keys.entries: ">"})
    assert bench.broker.requeue_dead_letters("rewound", ALL) == Counter(pending=1)
    (held,) = client.xpending_range(keys.entries, "rewound", "-", "+", 10)  # type: ignore[misc]
    assert held["consumer"] == b"someone"
    client.xgroup_destroy(keys.entries, "rewound")
    assert bench.broker.requeue_dead_letters("rewound", ALL) == Counter(no_group=1)
    assert bench.broker.count_dead_letters("rewound") == 1
    assert client.zcard(keys.parked) == 0


def test_an_undecodable_event_goes_back_and_comes_again(bench: Bench, client: redis.Redis) -> None:
    bench.on(Note, name="odd")(lambda event: None)
    bench.start()
    client.xadd(_keys(bench, "odd").entries, {"d": b"[" * 3000})
    bench.settled("odd")
    (before,) = bench.broker.dead_letters("odd")
    assert (before.cause, before.body(), before.event_id) == ("undecodable", None, b"")
    assert bench.broker.requeue_dead_letters("odd", ALL) == Counter(requeued=1)
    wait_until(lambda: bench.broker.count_dead_letters("odd") == 1)
    bench.settled("odd")
    (after,) = bench.broker.dead_letters("odd")
    assert (after.data, after.digest) == (before.data, before.digest)


@pytest.mark.parametrize("keep_bytes", [0, 2])
def test_a_lost_reply_requeues_an_event_once(
    open_bench: Callable[..., Bench], proxy: CuttingProxy, keep_bytes: int
) -> None:
    bench = open_bench()
    flaky = Flaky(bench, "lossy")
    bench.start()
    bench.logs.publish_many([note(n) for n in range(60)])
    bench.settled("lossy")
    flaky.works.set()
    flaky.runs.clear()
    operator = RedisStreamsBroker(
        proxy.url, namespace=bench.namespace, settings=bench.broker.settings
    )
    (oldest,) = operator.dead_letters("lossy", limit=1)
    operator.requeue_dead_letters("lossy", DeadLetterFilter(ids=[oldest.id]))
    proxy.cut_reply(script("requeue_event").sha.encode(), times=2, keep_bytes=keep_bytes)
    assert operator.requeue_dead_letters("lossy", ALL) == Counter(requeued=59)
    operator.close()
    assert proxy.cuts == 2
    bench.echoes(60)
    bench.settled("lossy")
    assert sorted(flaky.runs) == sorted((str(n), 1) for n in range(60))
    assert len(bench.read(Echo)) == 60


def test_two_operators_at_once_requeue_an_event_once(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench()
    flaky = Flaky(bench, "contested")
    bench.start()
    bench.logs.publish_many([note(n) for n in range(120)])
    bench.settled("contested")
    flaky.works.set()
    flaky.runs.clear()
    barrier = threading.Barrier(3)
    tallies: list[Counter[str]] = []

    def operate() -> None:
        barrier.wait()
        tallies.append(bench.broker.requeue_dead_letters("contested", ALL))

    threads = [threading.Thread(target=operate) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(tallies, Counter())["requeued"] == 120
    bench.echoes(120)
    bench.settled("contested")
    assert sorted(flaky.runs) == sorted((str(n), 1) for n in range(120))


def test_letters_of_all_streams_are_read_in_one_order_without_the_handlers_code(
    bench: Bench, open_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamatiq.broker.dead_letter_reading.PAGE", 1)
    flaky = Flaky(bench, "wide", Spread, Note, max_retries=0)
    worker = bench.start()
    bench.logs.publish_many([Spread(key=f"k{n}", ts_event=1, text=str(n)) for n in range(40)])
    bench.logs.publish_many([note(n) for n in range(40, 50)])
    bench.settled("wide")
    worker.stop()
    elsewhere = open_bench().broker
    assert elsewhere.subscriptions == {}
    known = elsewhere.known_queues()["wide"]
    assert known.is_subscription
    assert len(known.sources) == 5
    letters = list(elsewhere.dead_letters("wide"))
    assert len(letters) == elsewhere.count_dead_letters("wide") == 50
    order = [tuple(map(int, letter.dead_id.split("-"))) for letter in letters]
    assert order == sorted(order)
    assert len({letter.source for letter in letters}) == 5
    backwards = elsewhere.dead_letters("wide", newest_first=True)
    assert [letter.id for letter in backwards] == [letter.id for letter in letters[::-1]]
    paged: list[str] = []
    while page := list(elsewhere.dead_letters("wide", after=(paged or [None])[-1], limit=7)):
        paged += [letter.id for letter in page]
    assert paged == [letter.id for letter in letters]
    spread = elsewhere.count_dead_letters("wide", DeadLetterFilter(subjects=["test.spread"]))
    assert spread == 40
    with pytest.raises(ValueError, match=r"may stand in 5 places; write it as PLACE/"):
        elsewhere.dead_letter("wide", letters[0].dead_id)
    assert elsewhere.dead_letter("wide", letters[0].id) == letters[0]
    assert elsewhere.requeue_dead_letters("wide", ALL) == Counter(requeued=50)
    flaky.works.set()
    flaky.runs.clear()
    bench.start()
    bench.settled("wide")
    assert sorted(flaky.runs) == sorted((str(n), 1) for n in range(50))
