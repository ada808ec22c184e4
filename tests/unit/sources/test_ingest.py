"""One run: every row is accounted for, whatever happens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.sources.publishers import FakeLog

from streamatiq.errors import BacklogFull, IngestError
from streamatiq.events import MarketDataEvent, Trade
from streamatiq.sources import (
    BadRow,
    BadRowFile,
    Ingest,
    IngestReport,
    Input,
    Read,
    Skipped,
    read_mapping,
)
from streamatiq.sources.ingest import BATCH_EVENTS
from streamatiq.sources.report import MAX_SKIP_REASONS, SHOWN_BAD_ROWS

Write = Callable[..., Path]


def event(number: int) -> Read:
    data = Trade(price=number, size=1)
    return Read(number, 0, number, MarketDataEvent(ts_event=number, key="V:S", data=data))


def bad(number: int) -> Read:
    return Read(number, 0, number, BadRow(Path("a.csv"), number, "line", "is bad", "raw"))


def skipped(number: int, reason: str = "type=depth") -> Read:
    return Read(number, 0, number, Skipped(reason))


MAKERS = {"event": event, "bad": bad, "skipped": skipped}


def test_batches_are_full_and_in_order(log: FakeLog) -> None:
    report = Ingest(log.publish).run(event(number) for number in range(1, 1202))
    assert [len(batch) for batch in log.batches] == [BATCH_EVENTS, BATCH_EVENTS, 201]
    assert [one.ts_event for one in log.events] == list(range(1, 1202))
    assert report.published == report.rows == 1201


@given(
    kinds=st.lists(st.sampled_from(sorted(MAKERS)), max_size=60),
    limit=st.none() | st.integers(0, 70),
    max_bad=st.none() | st.integers(0, 20),
    damaged=st.booleans(),
    dry=st.booleans(),
)
def test_every_row_is_accounted_for(
    kinds: list[str], limit: int | None, max_bad: int | None, damaged: bool, dry: bool
) -> None:
    log = FakeLog()

    def rows() -> Iterator[Read]:
        yield from (MAKERS[kind](number) for number, kind in enumerate(kinds, 1))
        if damaged:
            raise IngestError("damaged")

    run = Ingest(None if dry else log.publish, limit=limit, max_bad=max_bad)
    read = len(kinds) if limit is None else min(limit, len(kinds))
    bad_ones = [at for at, kind in enumerate(kinds[:read], 1) if kind == "bad"]
    aborts = max_bad is not None and len(bad_ones) > max_bad
    if aborts or (damaged and (limit is None or limit > len(kinds))):
        with pytest.raises(IngestError, match="More than" if aborts else "damaged"):
            run.run(rows())
    else:
        run.run(rows())
    if aborts:
        read = bad_ones[max_bad or 0]
    report = run.report
    assert report.rows == read == report.accounted
    events = kinds[:read].count("event")
    assert (report.checked if dry else report.published) == events == len(log.events) + events * dry
    assert report.bad == kinds[:read].count("bad")


def test_publishing_again_finds_duplicates(log: FakeLog) -> None:
    rows = [event(number) for number in range(1, 11)]
    Ingest(log.publish).run(rows[:4])
    report = Ingest(log.publish).run(rows)
    assert (report.published, report.duplicates) == (6, 4)


def test_a_failed_batch_is_uncertain_and_nothing_after_it_is_read(log: FakeLog) -> None:
    log.fails_at = 2
    run = Ingest(log.publish)
    with pytest.raises(ConnectionError):
        run.run(event(number) for number in range(1, 5000))
    report = run.report
    assert (report.published, report.uncertain) == (BATCH_EVENTS, BATCH_EVENTS)
    assert report.rows == report.accounted == 2 * BATCH_EVENTS


def test_a_full_log_is_waited_for(log: FakeLog) -> None:
    log.room = 700
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        log.room = 150

    run = Ingest(log.publish, wait=wait, clock_s=lambda: 100.0 + sum(waits))
    report = run.run(event(number) for number in range(1, 1201))
    assert (report.published, report.duplicates, report.unsent) == (1200, 0, 0)
    assert report.accounted == report.rows == 1200
    sent = [one.ts_event for batch in log.batches for one in batch]
    assert list(dict.fromkeys(sent)) == list(range(1, 1201))
    assert report.waited_s == pytest.approx(sum(waits))
    assert f"waited      {report.waited_s:.1f} s for room in a full log" in report.lines()


def test_a_log_that_stays_full_ends_the_run(log: FakeLog) -> None:
    log.room = 700
    now_s = 0.0

    def wait(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds
        if 3 <= now_s < 3 + seconds:
            log.room = 100  # the time begins anew

    run = Ingest(log.publish, room_timeout_s=5, wait=wait, clock_s=lambda: now_s)
    with pytest.raises(BacklogFull):
        run.run(event(number) for number in range(1, 5000))
    report = run.report
    assert (report.published, report.unsent, report.uncertain) == (800, 200, 0)
    assert report.rows == report.accounted == 1000
    assert 8 <= now_s < 8.1


def test_a_stop_ends_the_wait_for_room(log: FakeLog) -> None:
    log.room = 700
    run = Ingest(log.publish, stopped=lambda: log.room == 0)
    report = run.run(event(number) for number in range(1, 5000))
    assert report.interrupted
    assert (report.published, report.unsent) == (700, 300)
    assert report.rows == report.accounted == 1000


def test_an_interrupt_of_the_wait_for_room_leaves_an_honest_report(log: FakeLog) -> None:
    log.room = 700

    def wait(_: float) -> None:
        raise KeyboardInterrupt

    run = Ingest(log.publish, wait=wait)
    with pytest.raises(KeyboardInterrupt):
        run.run(event(number) for number in range(1, 5000))
    assert (run.report.published, run.report.unsent) == (700, 300)
    assert run.report.rows == run.report.accounted == 1000


def test_an_interrupt_while_reading_leaves_an_honest_report(log: FakeLog) -> None:
    def rows() -> Iterator[Read]:
        yield event(1)
        raise KeyboardInterrupt

    run = Ingest(log.publish)
    with pytest.raises(KeyboardInterrupt):
        run.run(rows())
    assert (run.report.rows, run.report.unsent, log.batches) == (1, 1, [])


def test_a_stop_ends_after_the_batch(log: FakeLog) -> None:
    run = Ingest(log.publish, stopped=lambda: len(log.batches) == 2)
    report = run.run(event(number) for number in range(1, 5000))
    assert report.interrupted
    assert report.published == report.rows == report.accounted == 2 * BATCH_EVENTS


def test_a_stop_is_seen_where_no_row_is_an_event(log: FakeLog) -> None:
    report = Ingest(log.publish, stopped=lambda: True).run(map(skipped, range(10_000)))
    assert report.interrupted
    assert report.rows == 1000


def test_progress_is_shown_with_and_without_events(log: FakeLog) -> None:
    seen: list[int] = []
    rows = chain(map(bad, range(2500)), map(event, range(2500, 4000)))
    Ingest(log.publish, on_progress=lambda report: seen.append(report.rows)).run(rows)
    assert seen[0] == 1000
    assert seen[-1] == 4000
    assert seen == sorted(seen)


def test_the_report_names_what_it_counts() -> None:
    report = Ingest(None).run(
        chain(map(event, range(3)), map(bad, range(50)), map(skipped, range(2)))
    )
    report.seconds = 2.0
    text = "\n".join(report.lines())
    assert "rows read   55  (3 trades)" in text
    assert "right       3  (dry run: nothing was published)" in text
    assert "2  type=depth" in text
    assert "a.csv, line 0: is bad" in text
    assert text.count("is bad") == SHOWN_BAD_ROWS
    assert f"and {50 - SHOWN_BAD_ROWS} more; --bad-rows FILE lists all of them" in text
    assert "took        2.0 s, 28 rows/s" in text


def test_the_report_of_a_run_cut_short() -> None:
    report = IngestReport(
        rows=4, published=1, uncertain=2, unsent=1, most_behind_s=0.25, interrupted=True
    )
    text = "\n".join(report.lines())
    assert "uncertain   2  (their batch failed: stored, or not)" in text
    assert "unsent      1" in text
    assert "pace        at most 0.250 s behind the asked pace" in text
    assert text.endswith("interrupted before the end")


def test_reasons_to_skip_cannot_fill_the_memory() -> None:
    report = Ingest(None).run(skipped(n, f"id={n}") for n in range(10 * MAX_SKIP_REASONS))
    assert len(report.skipped) == MAX_SKIP_REASONS + 1
    assert report.skipped.total() == 10 * MAX_SKIP_REASONS
    assert report.skipped["other values"] == 9 * MAX_SKIP_REASONS


def test_every_bad_row_is_written(write: Write) -> None:
    source = write("a.csv", b"key,ts_event,price,size\nV:S,1,1,1\nV:S,x,1,1\nV:S\n\xff\n")
    path = source.with_name("bad.jsonl")
    with Input([source]) as data, BadRowFile(path, [source]) as kept:
        Ingest(None, on_bad=kept.write).run(data)
    first, second, third = map(json.loads, path.read_text().splitlines())
    assert first == {
        "file": str(source),
        "line": 3,
        "reason": "column 'ts_event' is no number of ns: 'x'",
        "content": {"key": "V:S", "ts_event": "x", "price": "1", "size": "1"},
    }
    assert (second["line"], second["content"]) == (4, "V:S")
    assert (third["line"], third["content"]) == (5, "\\xff")


def test_bad_rows_never_replace_an_input(write: Write) -> None:
    source = write("a.csv", "a\n")
    link = source.with_name("link")
    link.symlink_to(source)
    with pytest.raises(IngestError, match="is one of the inputs"):
        BadRowFile(link, [source])
    with pytest.raises(IngestError, match="cannot be written: No such file"):
        BadRowFile(source.with_name("no") / "bad.jsonl", [source])


CSV = "key,ts_event,price,size\n"


def test_files_are_merged_by_time_then_file_then_row(write: Write) -> None:
    one = write("one.csv", CSV + "V:A,10,1,1\nV:A,30,2,1\nV:A,20,3,1\n")
    two = write("two.csv", CSV + "V:B,10,4,1\nV:B,x,0,1\nV:B,25,5,1\n")
    with Input([one, two]) as data:
        rows = list(data)
        assert data.fraction_read() == 1.0
    found = [
        str(row.outcome.data.price) if isinstance(row.outcome, MarketDataEvent) else "bad"
        for row in rows
    ]
    # Row 3 of the first file lies before row 2 in time, and stays behind it.
    assert found == ["1", "4", "bad", "5", "2", "3"]


def ids(path: Path, mapping: Path | None = None) -> list[object]:
    with Input([path], read_mapping(mapping) if mapping else None) as data:
        return [row.outcome.id for row in data if isinstance(row.outcome, MarketDataEvent)]


def test_ids_follow_from_content_or_from_the_named_dataset(write: Write) -> None:
    text = CSV + "V:A,10,1,1\nV:A,10,1,1\n"
    one, copy = write("one.csv", text), write("copy.csv", text)
    other = write("b/one.csv", text.replace("10", "11"))
    assert len(set(ids(one))) == 2
    assert ids(one) == ids(one) == ids(copy)
    assert not set(ids(one)) & set(ids(other))
    mapping = """\
version: 1
kind: trade
key: key
time: {ts_event: {column: ts_event, unit: ns}}
trade: {price: price, size: size}
"""
    named = write("named.yaml", mapping + "dataset: d\n")
    assert ids(one, named) == ids(other, named) != ids(one)
    assert not set(ids(one, named)) & set(ids(copy, named))
    fresh = write("fresh.yaml", mapping + "ids: random\n")
    assert not set(ids(one, fresh)) & set(ids(one, fresh))
    with pytest.raises(IngestError, match="Two of the files have the same name"):
        Input([one, other], read_mapping(named))


def test_no_file_is_an_error() -> None:
    with pytest.raises(IngestError, match="No file was given"):
        Input([])
