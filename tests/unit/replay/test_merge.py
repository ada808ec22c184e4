"""One order over all streams: against `sorted`, whatever the pages, times and positions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.replay.replay_kit import MS, Memory, Tick, Tock, places

from streamatiq.errors import EventDecodeError, InvalidReplay
from streamatiq.scheduler.replay.items import Order, Place, Replayed
from streamatiq.scheduler.replay.merge import Merge, page_size
from streamatiq.scheduler.replay.ranges import entry_id
from streamatiq.scheduler.replay.spec import ReplaySpec
from streamatiq.scheduler.replay.streams import Entry, StreamPosition

PARTS = [(Tick, "0"), (Tick, "1"), (Tock, "high"), (Tock, "normal"), (Tock, "low")]
NUMBERS = {"0": 0, "1": 1, "high": 0, "normal": 1, "low": 2}

#: For each stream: steps of its ids in ms (0: the same ms), how far its clock lags, event time.
LOGS = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from([0, 0, 1, 2, 5]), st.sampled_from([0, 0, 0, 3]), st.integers(0, 20)
        ),
        max_size=12,
    ),
    min_size=5,
    max_size=5,
)


def memory_of(logs: Any) -> Memory:
    memory = Memory()
    for (cls, part), steps in zip(PARTS, logs, strict=True):
        ms, sequence = 100, 0
        for n, (step, lag, ts_event) in enumerate(steps):
            ms, sequence = (ms + step, 0) if step else (ms, sequence + 1)
            memory.add(cls, part, ms, sequence=sequence, ts_event=ts_event, key=f"k{n % 3}", n=n)
            name = f"{cls.event_type}/{part}"
            entry = memory.streams[name][-1]
            # A clock that was set back: the entry is older than its id.
            memory.streams[name][-1] = Entry(entry.entry_id, entry.data, (ms - lag) * 1000)
    return memory


def expected(memory: Memory, spec: ReplaySpec) -> list[str]:
    """The definition, with all in memory."""
    rows: list[tuple[Order, str]] = []
    for cls, part in PARTS:
        latest = 0
        for entry in memory.streams.get(f"{cls.event_type}/{part}", []):
            place = Place(cls.event_type, part, entry.entry_id)
            event = Replayed(cls, 0, place, entry.data, Order(0, "", 0, (0, 0))).event
            if spec.time_basis == "log":
                own = latest = max(latest, entry.appended_us * 1000)
            else:
                own = event.ts_event
            inside = (spec.start_ns or 0) <= own and (spec.end_ns is None or own < spec.end_ns)
            if inside and (spec.keys is None or event.key in spec.keys):
                latest = max(latest, own)
                order = Order(latest, place.type, NUMBERS[part], entry_id(entry.entry_id))
                rows.append((order, str(place)))
    return [place for _, place in sorted(rows)]


def drained(merge: Merge) -> list[Replayed]:
    items = []
    while merge.peek() is not None:
        items.append(merge.pop())
    return items


@given(
    LOGS,
    st.integers(1, 5),
    st.sampled_from(["log", "event"]),
    st.none() | st.integers(95, 115),
    st.none() | st.integers(1, 20),
    st.none() | st.sampled_from([["k0"], ["k1", "k2"]]),
)
def test_it_is_the_sorted_order(
    logs: Any, page: int, basis: Any, start: int | None, length: int | None, keys: Any
) -> None:
    unit = MS if basis == "log" else 1
    offset = 0 if basis == "log" else 95
    start_ns = None if start is None else (start - offset) * unit
    end_ns = None if length is None else (start_ns or 0) + length * unit
    spec = ReplaySpec.of([Tick, Tock], keys=keys, start=start_ns, end=end_ns, time_basis=basis)
    memory = memory_of(logs)
    items = drained(memory.merge(spec, page=page))
    assert places(items) == expected(memory, spec)
    assert [one.order for one in items] == sorted(one.order for one in items)


@given(LOGS, st.integers(1, 5), st.sampled_from(["log", "event"]), st.data())
def test_it_goes_on_from_any_position(logs: Any, page: int, basis: Any, data: Any) -> None:
    spec = ReplaySpec.of([Tick, Tock], time_basis=basis)
    memory = memory_of(logs)
    whole = drained(memory.merge(spec, page=page))
    cut = data.draw(st.integers(0, len(whole)))
    positions = {
        f"{one.place.type}/{one.place.part}": StreamPosition(one.place.entry_id, one.time_ns)
        for one in whole[:cut]
    }
    rest = drained(memory.merge(spec, page=page, positions=positions))
    assert [(one.order, one.data) for one in rest] == [(one.order, one.data) for one in whole[cut:]]


@given(LOGS, st.integers(1, 5), st.sampled_from(["log", "event"]), st.data())
def test_seek(logs: Any, page: int, basis: Any, data: Any) -> None:
    spec = ReplaySpec.of([Tick, Tock], time_basis=basis)
    memory = memory_of(logs)
    whole = drained(memory.merge(spec, page=page))
    merge = memory.merge(spec, page=page)
    for _ in range(data.draw(st.integers(0, len(whole)))):
        merge.pop() if merge.peek() is not None else None
    if whole and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(whole) - 1))
        merge.seek_place(whole[at].place)
        wanted = whole[at:]
    else:
        time_ns = data.draw(st.integers(90, 140)) * (MS if basis == "log" else 1)
        merge.seek_time(time_ns)
        wanted = [one for one in whole if one.time_ns >= time_ns]
    merge.peek()
    resumed = memory.merge(spec, page=page, positions=merge.positions())
    assert places(drained(merge)) == places(wanted)
    assert [one.order for one in drained(resumed)] == [one.order for one in wanted]


def test_a_place_that_is_none_of_the_range_changes_nothing() -> None:
    memory = Memory()
    for ms in range(100, 110):
        memory.add(Tick, "0", ms)
    merge = memory.merge(ReplaySpec.of(Tick), page=2)
    merge.peek()
    merge.pop()
    for place in (Place("replay.tick", "0", "99-0"), Place("replay.tick", "7", "100-0")):
        with pytest.raises(InvalidReplay, match="no event of this replay's range"):
            merge.seek_place(place)
    assert places(drained(merge))[0] == "replay.tick/0/101-0"


def test_ties_of_time_are_broken_by_type_part_and_entry() -> None:
    memory = Memory()
    memory.add(Tock, "low", 100)
    memory.add(Tock, "high", 100)
    memory.add(Tick, "1", 100)
    memory.add(Tick, "0", 100, sequence=0)
    memory.add(Tick, "0", 100, sequence=1)
    items = drained(memory.merge(ReplaySpec.of([Tick, Tock])))
    assert places(items) == [
        "replay.tick/0/100-0",
        "replay.tick/0/100-1",
        "replay.tick/1/100-0",
        "replay.tock/high/100-0",
        "replay.tock/low/100-0",
    ]


def test_memory_is_bounded_by_pages() -> None:
    memory = Memory()
    for n in range(2000):
        memory.add(Tick, str(n % 2), 100 + n)
    merge = memory.merge(ReplaySpec.of(Tick), page=16)
    most = 0
    while merge.peek() is not None:
        while merge.prefetch():
            pass
        most = max(most, sum(one.held for one in merge._readers))
        merge.pop()
    assert 0 < most <= 2 * 2 * 16


def test_pages_are_smaller_where_there_are_many_streams() -> None:
    assert page_size(1) == 256
    assert page_size(4096) == 8


def test_an_entry_that_is_no_event_is_named() -> None:
    memory = Memory()
    memory.streams["replay.tick/0"] = [Entry("100-0", b"{}", 100_000)]
    merge = memory.merge(ReplaySpec.of(Tick, keys=["k"]))
    with pytest.raises(EventDecodeError, match=r"replay\.tick/0/100-0 is no Tick"):
        merge.peek()
