"""Publishing: receipts, duplicates, order, routing, and what a lost reply or a loop may not do."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
import redis
from dramatiq.errors import ConnectionClosed
from tests.integration.logs.harness import Bench, Note, Spread, Urgent, note, texts
from tests.support import CuttingProxy, wait_until

from streamatiq import Event, Lane, Laned, Partitioned, Receipt
from streamatiq.broker.connections import Link, LinkPool
from streamatiq.errors import InvalidEvent, LogMismatch, WrongKeyType


def _order(receipts: list[Receipt]) -> dict[str, list[tuple[int, ...]]]:
    """Entry ids as numbers, by part, in the order of the receipts."""
    found: dict[str, list[tuple[int, ...]]] = {}
    for one in receipts:
        found.setdefault(one.part, []).append(tuple(map(int, one.entry_id.split("-"))))
    return found


def test_a_receipt_tells_where_the_event_stands(bench: Bench) -> None:
    receipt = bench.logs.publish(note("a"))
    (entry,) = bench.read(Note)
    assert receipt == Receipt("test.note", "0", entry.entry_id, duplicate=False)
    assert entry.part == "0"
    assert entry.event.text == "a"
    assert entry.event.ts_published is not None
    # Two clocks of one machine: the publisher's and the server's.
    assert abs(entry.appended_us * 1000 - entry.event.ts_published) < 5e9


def test_a_duplicate_returns_the_first_place(bench: Bench) -> None:
    event = note("a")
    first = bench.logs.publish(event)
    bench.logs.publish(note("between"))
    assert bench.logs.publish(event) == first._replace(duplicate=True)
    assert bench.logs.publish(note("other content", id=event.id)).duplicate
    assert texts(bench.read(Note)) == ["a", "between"]


def test_duplicates_within_one_call(bench: Bench) -> None:
    one, two = note(1), note(2)
    receipts = bench.logs.publish_many([one, two, one, one])
    assert [r.duplicate for r in receipts] == [False, False, True, True]
    assert receipts[0].entry_id == receipts[2].entry_id == receipts[3].entry_id
    # Further apart than one script call takes.
    many = [note(n) for n in range(1100)]
    receipts = bench.logs.publish_many([*many, many[0], many[1099]])
    assert [r.duplicate for r in receipts] == [False] * 1100 + [True, True]
    assert receipts[1100].entry_id == receipts[0].entry_id


def test_the_dedupe_window_is_at_least_one_and_at_most_two_long(
    open_bench: Callable[..., Bench], client: redis.Redis
) -> None:
    bench = open_bench(event_bus={"idempotency_window": 60})
    keys = bench.keys.log("test.note", "0")
    first, second, third = note(1), note(2), note(3)
    bench.logs.publish(first)
    assert 60_000 < client.pttl(keys.ids) <= 120_000  # type: ignore[operator]
    # A window passes: what is left of the young hash's life tells its age.
    client.pexpire(keys.ids, 59_000)
    bench.logs.publish(second)
    assert client.hlen(keys.ids_old) == client.hlen(keys.ids) == 1
    assert client.pttl(keys.ids_old) <= 59_000  # type: ignore[operator]
    assert bench.logs.publish(first).duplicate
    # Another one: the oldest ids are forgotten, the younger ones kept.
    client.pexpire(keys.ids, 59_000)
    bench.logs.publish(third)
    assert bench.logs.publish(second).duplicate
    assert not bench.logs.publish(first).duplicate


def test_a_short_window_forgets_by_itself(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench(event_bus={"idempotency_window": 0.1})
    event = note("")
    bench.logs.publish(event)
    wait_until(lambda: not bench.logs.publish(event).duplicate, 5)
    assert len(bench.read(Note)) == 2


def test_publish_many_keeps_the_order_within_each_stream(bench: Bench) -> None:
    # Several script calls a stream, and several round trips.
    events = [Spread(ts_event=1, text=str(n), key=f"key {n % 11}") for n in range(4800)]
    receipts = bench.logs.publish_many(events)
    assert len(receipts) == len(events)
    by_part = _order(receipts)
    assert set(by_part) == {"0", "1", "2", "3"}
    for ids in by_part.values():
        assert all(a < b for a, b in pairwise(ids))
    for part in by_part:
        wanted = [event.text for event, r in zip(events, receipts, strict=True) if r.part == part]
        assert texts(bench.read(Spread, part=part)) == wanted


def test_publish_many_keeps_the_order_when_scripts_were_flushed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, client: redis.Redis
) -> None:
    """The script is gone, and another process loads it between two round trips of one call."""
    bench.logs.publish(note("warm"))
    client.script_flush()
    send_many = Link.send_many

    def interleaved(link: Link, commands: Any) -> list[Any]:
        monkeypatch.setattr(Link, "send_many", send_many)
        first = send_many(link, commands)
        bench.publish_elsewhere()
        return first

    monkeypatch.setattr(Link, "send_many", interleaved)
    bench.logs.publish_many([note(n) for n in range(1_300)])
    found = [text for text in texts(bench.read(Note)) if text.isdigit()]
    assert found == [str(n) for n in range(1_300)]


def test_several_types_in_one_call(bench: Bench) -> None:
    events: list[Event] = [note(1), Spread(ts_event=1, key="k"), note(2), Urgent(ts_event=1)]
    receipts = bench.logs.publish_many(events)
    assert [r.log for r in receipts] == ["test.note", "test.spread", "test.note", "test.urgent"]
    assert bench.logs.publish_many([]) == []


def test_a_key_always_goes_to_the_same_partition(bench: Bench) -> None:
    parts = {key: {bench.logs.publish(Spread(ts_event=1, key=key)).part for _ in range(3)}
             for key in map(str, range(40))}  # fmt: skip
    assert all(len(found) == 1 for found in parts.values())
    spread = Counter(part for found in parts.values() for part in found)
    assert set(spread) == {"0", "1", "2", "3"}
    # For ever: a changed hash would split the order of what is stored already.
    assert parts["0"] == {"1"}
    assert bench.logs.part_of(Spread(ts_event=1, key="binance:BTCUSDT")) == "3"


def test_lanes_are_chosen_by_priority(bench: Bench) -> None:
    for lane in Lane:
        assert bench.logs.publish(Urgent(ts_event=1, priority=lane)).part == lane.value
    assert bench.logs.publish(Urgent(ts_event=1)).part == "normal"
    assert [entry.part for entry in bench.read(Urgent)] == ["high", "normal", "normal", "low"]


def test_apublish_works_in_several_loops_and_tasks(bench: Bench) -> None:
    async def publish(number: int) -> list[Receipt]:
        alone = await bench.logs.apublish(note(f"{number} alone"))
        together = await asyncio.gather(
            *(bench.logs.apublish_many([note(f"{number} {n} {m}") for m in range(3)])
              for n in range(10))
        )  # fmt: skip
        again = await bench.logs.apublish_many([note(f"{number} last")] * 2)
        await bench.logs.aclose()
        return [alone, *(one for many in together for one in many), *again]

    results: list[list[Receipt]] = [asyncio.run(publish(0)), asyncio.run(publish(1))]
    threads = [
        threading.Thread(target=lambda n=n: results.append(asyncio.run(publish(n)))) for n in (2, 3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for receipts in results:
        assert [r.duplicate for r in receipts] == [False] * 32 + [True]
    assert len(set(texts(bench.read(Note)))) == len(bench.read(Note)) == 4 * 32


@pytest.mark.parametrize("keep_bytes", [0, 3])
def test_a_publish_whose_reply_is_lost_is_stored_once(
    open_bench: Callable[..., Bench], proxy: CuttingProxy, keep_bytes: int
) -> None:
    bench = open_bench(proxy.url)
    bench.logs.publish(note("warm"))
    proxy.cut_reply(b"EVALSHA", times=3, keep_bytes=keep_bytes)
    assert bench.logs.publish(note("once")).duplicate
    assert proxy.cuts == 3
    proxy.cut_reply(b"EVALSHA", times=2, keep_bytes=keep_bytes)
    receipts = bench.logs.publish_many([note(n) for n in range(1300)])
    assert proxy.cuts > 3  # one or two: a request larger than a chunk counts more than once
    assert texts(bench.read(Note)) == ["warm", "once", *map(str, range(1300))]
    assert [r.entry_id for r in receipts] == [e.entry_id for e in bench.read(Note)][2:]


def test_an_apublish_whose_reply_is_lost_is_stored_once(
    open_bench: Callable[..., Bench], proxy: CuttingProxy
) -> None:
    bench = open_bench(proxy.url)

    async def publish() -> None:
        await bench.logs.apublish(note("warm"))
        proxy.cut_reply(b"EVALSHA", times=2)
        assert (await bench.logs.apublish(note("once"))).duplicate
        await bench.logs.aclose()

    asyncio.run(publish())
    assert proxy.cuts == 2
    assert texts(bench.read(Note)) == ["warm", "once"]


def test_a_link_left_in_the_middle_of_a_call_is_not_used_again(bench: Bench) -> None:
    """Dramatiq's time limit raises wherever the thread is: also between a request and its reply."""
    pool = LinkPool(bench.broker.endpoint, bench.broker._retry)

    class Interrupted(BaseException):
        pass

    def interrupted(link: Link) -> None:
        connection = link._open()
        connection.send_packed_command(connection.pack_command("ECHO", "stale"))
        raise Interrupted

    with pytest.raises(Interrupted):
        pool.call(interrupted)
    assert pool.call(lambda link: link.send("ECHO", "fresh")) == b"fresh"
    pool.close()


def test_too_many_lost_replies_are_a_connection_error_of_dramatiqs_kind(
    open_bench: Callable[..., Bench], proxy: CuttingProxy
) -> None:
    bench = open_bench(proxy.url, redis={"retry_delay": 0.01, "max_retries": 2})
    event = note("kept")
    bench.logs.publish(note("warm"))
    proxy.cut_reply(b"EVALSHA", times=3)
    with pytest.raises(ConnectionClosed, match=r"No connection to redis://127.0.0.1"):
        bench.logs.publish(event)
    assert bench.logs.publish(event).duplicate
    assert texts(bench.read(Note)) == ["warm", "kept"]


def test_a_log_of_another_layout_is_refused(bench: Bench, client: redis.Redis) -> None:
    bench.logs.publish(Spread(ts_event=1))
    key = bench.keys.layout("test.note")
    client.set(key, "partitioned:8")
    with pytest.raises(LogMismatch, match=r"'test.note' exists as partitioned:8, but Note declares "
                                          r"partitioned:1.*declare partitioned:8"):  # fmt: skip
        bench.logs.publish(note(""))
    with pytest.raises(LogMismatch):
        asyncio.run(_apublish(bench, note("")))
    client.set(key, "laned")
    with pytest.raises(LogMismatch, match="exists as laned"):
        bench.logs.publish_many([note("")])
    assert bench.read(Note) == []
    assert client.get(bench.keys.layout("test.spread")) == b"partitioned:4"
    client.delete(key)
    bench.logs.publish(Urgent(ts_event=1))
    assert client.get(bench.keys.layout("test.urgent")) == b"laned"


async def _apublish(bench: Bench, event: Event) -> None:
    try:
        await bench.logs.apublish(event)
    finally:
        await bench.logs.aclose()


def test_a_worker_does_not_boot_on_another_layout(bench: Bench, client: redis.Redis) -> None:
    client.set(bench.keys.layout("test.note"), "laned")
    bench.on(Note, name="never")(lambda event: None)
    with pytest.raises(LogMismatch):
        bench.start()


def test_what_is_no_event_is_refused_before_anything_is_stored(bench: Bench) -> None:
    for what in ("text", None, object(), Note):
        with pytest.raises(InvalidEvent, match=r"Cannot publish .*not an Event"):
            bench.logs.publish_many([note("first"), what])  # type: ignore[list-item]
    assert bench.read(Note) == []


def test_a_log_key_of_another_type_is_named(bench: Bench, client: redis.Redis) -> None:
    client.set(bench.keys.log("test.note", "0").entries, "somebody else's")
    with pytest.raises(WrongKeyType, match="Another program uses our key"):
        bench.logs.publish(note(""))


def test_the_id_is_what_makes_a_duplicate(bench: Bench) -> None:
    shared = uuid4()

    class Local(Event, type="test.publish.local", log=Laned()):
        pass

    class Split(Event, type="test.publish.split", log=Partitioned(2)):
        pass

    assert not bench.logs.publish(Local(ts_event=1, id=shared)).duplicate
    assert not bench.logs.publish(Split(ts_event=1, id=shared)).duplicate  # another log
    assert bench.logs.publish(Local(ts_event=2, id=shared)).duplicate
