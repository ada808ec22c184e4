"""Reading logs: by id, by time, backwards, page by page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import redis
from tests.integration.logs.harness import Bench, Note, Spread, note, texts

from streamatiq import encode
from streamatiq.errors import EventDecodeError, SchemaVersionError


def _at(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


def test_an_empty_log_reads_as_nothing(bench: Bench) -> None:
    assert bench.read(Note) == bench.read(Note, backwards=True) == []


def test_by_ids_both_ends_are_included(bench: Bench) -> None:
    ids = [r.entry_id for r in bench.logs.publish_many([note(n) for n in range(10)])]
    assert texts(bench.read(Note, first=ids[3], last=ids[6])) == ["3", "4", "5", "6"]
    assert texts(bench.read(Note, first=ids[8])) == ["8", "9"]
    assert texts(bench.read(Note, last=ids[1])) == ["0", "1"]
    assert texts(bench.read(Note, first=f"({ids[8]}")) == ["9"]
    assert texts(bench.read(Note, first=ids[3], last=ids[5], backwards=True)) == ["5", "4", "3"]


def test_pages_follow_one_another_both_ways(bench: Bench) -> None:
    # More than two pages of 500, and a whole number of them.
    for count in (1000, 1234):
        cls = Note if count == 1000 else Spread
        bench.logs.publish_many([cls(ts_event=1, text=str(n)) for n in range(count)])
        wanted = [str(n) for n in range(count)]
        part = bench.logs.part_of(cls(ts_event=1))
        assert texts(bench.read(cls, part=part)) == wanted
        assert texts(bench.read(cls, part=part, backwards=True)) == wanted[::-1]


def test_parts_follow_one_another(bench: Bench) -> None:
    bench.logs.publish_many([Spread(ts_event=1, text=str(n), key=str(n)) for n in range(40)])
    entries = bench.read(Spread)
    assert [entry.part for entry in entries] == sorted(entry.part for entry in entries)
    assert sorted(texts(entries), key=int) == [str(n) for n in range(40)]
    only = bench.read(Spread, part="2")
    assert only == [entry for entry in entries if entry.part == "2"]
    assert only


def test_by_time_start_is_included_and_end_is_not(bench: Bench) -> None:
    for n in range(30):  # one call each: an append time of its own
        bench.logs.publish(note(n))
    entries = bench.read(Note)
    start, end = _at(entries[10].appended_us), _at(entries[20].appended_us)
    wanted = [
        e for e in entries if entries[10].appended_us <= e.appended_us < entries[20].appended_us
    ]
    assert len(wanted) >= 10 - 1
    assert bench.read(Note, start=start, end=end) == wanted
    assert bench.read(Note, start=start, end=end, backwards=True) == wanted[::-1]
    assert bench.read(Note, start=start) == [e for e in entries if _at(e.appended_us) >= start]
    assert bench.read(Note, end=end) == [e for e in entries if _at(e.appended_us) < end]
    elsewhere = timezone(timedelta(hours=-7))
    assert bench.read(Note, start=start.astimezone(elsewhere), end=end) == wanted
    assert bench.read(Note, start=end, end=start) == []
    assert bench.read(Note, start=_at(entries[-1].appended_us + 1)) == []


def test_by_time_goes_by_the_append_not_by_the_id(bench: Bench, client: redis.Redis) -> None:
    """The server's clock was ahead, then set back: ids go on rising from the wrong time."""
    bench.logs.publish(note("before"))
    (before,) = bench.read(Note)
    key = bench.keys.log("test.note", "0").entries
    raw: Any = client.xrange(key)
    data = raw[0][1][b"d"]
    ahead_ms = before.appended_us // 1000 + 3_600_000
    for n in range(3):  # appended one second after another, with ids of an hour later
        fields: Any = {b"d": data, b"a": str(before.appended_us + (n + 1) * 1_000_000)}
        client.xadd(key, fields, id=f"{ahead_ms}-{n}")
    start, end = _at(before.appended_us + 1_000_000), _at(before.appended_us + 3_000_000)
    found = bench.read(Note, start=start, end=end)
    assert [entry.entry_id for entry in found] == [f"{ahead_ms}-0", f"{ahead_ms}-1"]
    assert bench.read(Note, start=start, end=end, backwards=True) == found[::-1]


def test_a_time_without_a_zone_is_refused(bench: Bench) -> None:
    bench.logs.publish(note(""))
    naive = datetime(2026, 1, 1)
    for how in ({"start": naive}, {"end": naive}):
        with pytest.raises(ValueError, match="has no time zone"):
            bench.read(Note, **how)


def test_ids_and_times_together_are_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="by entry ids or by times, not both"):
        bench.read(Note, first="1-1", start=_at(1))


def test_an_undecodable_entry_is_named(bench: Bench, client: redis.Redis) -> None:
    bench.logs.publish(note("good"))
    key = bench.keys.log("test.note", "0").entries
    entry_id: Any = client.xadd(key, {b"d": b"no event", b"a": b"1"})
    entries = bench.logs.read(Note)
    assert next(entries).event.text == "good"
    with pytest.raises(EventDecodeError, match=f"Entry {entry_id.decode()} of .* is no Note"):
        next(entries)


def test_an_entry_of_a_newer_version_says_so(bench: Bench, client: redis.Redis) -> None:
    bench.logs.publish(note("x"))
    key = bench.keys.log("test.note", "0").entries
    newer = encode(note("y").stamped(1)).replace(b'"v":1', b'"v":9')
    client.xadd(key, {"d": newer})
    with pytest.raises(SchemaVersionError, match=r"is no Note: .*9"):
        bench.read(Note)
