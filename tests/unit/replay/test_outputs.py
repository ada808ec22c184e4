"""Outputs: an order that is a function of the set of events, a bounded sort, and differences."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamatiq import FillEvent, MarketDataEvent, OrderEvent, SignalEvent
from streamatiq.errors import EventDecodeError
from streamatiq.scheduler.replay.diff import compare
from streamatiq.scheduler.replay.outputs import Output, canonical, output_digest, sorted_outputs
from streamatiq.workers.replaying import default_on_replay

OUTPUTS = st.lists(
    st.builds(
        lambda kind, key, event_id, text: Output(
            kind,
            key,
            event_id,
            json.dumps({"id": event_id, "key": key, "text": text, "ts_event": len(text)}),
        ),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["k", "l", ""]),
        st.sampled_from([f"{n}" for n in range(8)]),
        st.text(max_size=3),
    ),
    max_size=25,
    unique_by=lambda one: one[:3],
)


@given(OUTPUTS, st.integers(1, 5), st.randoms())
def test_the_digest_does_not_depend_on_who_was_faster(
    outputs: list[Output], run: int, random: Any
) -> None:
    shuffled = list(outputs)
    random.shuffle(shuffled)
    with sorted_outputs(outputs, run=run) as one, sorted_outputs(shuffled, run=100) as other:
        found = list(one)
        assert found == sorted(outputs)
        assert output_digest(found) == output_digest(other)


@given(OUTPUTS, OUTPUTS, st.integers(0, 6))
def test_differences_are_those_of_the_sets(
    before: list[Output], after: list[Output], show: int
) -> None:
    diff = compare(sorted(before), sorted(after), show=show)
    left, right = ({one[:3]: one for one in several} for several in (before, after))
    naive = {
        at: (left.get(at), right.get(at)) for at in {*left, *right} if left.get(at) != right.get(at)
    }
    assert diff.counts.total() == len(naive)
    assert diff.same == (output_digest(sorted(before)) == output_digest(sorted(after)))
    assert diff.events == (len(before), len(after))
    assert len(diff.first) == min(show, len(naive))
    times = [one.ts_event for one in diff.first]
    assert times == sorted(times)
    for one in diff.first:
        assert naive[one.either[:3]] == (one.before, one.after)


def test_fields_that_differ_are_named() -> None:
    one = canonical("a", b'{"id":"1","key":"k","x":{"p":1,"q":2},"ts_published":5}')
    other = canonical("a", b'{"key":"k","id":"1","x":{"q":3,"p":1},"y":"new","ts_published":6}')
    (difference,) = compare([one], [other]).first
    assert difference.fields() == [("x.q", 2, 3), ("y", None, "new")]
    same = canonical("a", b'{"key":"k","x":{"q":2,"p":1},"id":"1"}')
    assert compare([one], [same]).same
    ignored = canonical("a", b'{"id":"1","key":"k","x":{"p":1,"q":2},"y":1}', ignore=["y"])
    assert compare([one], [ignored]).same


def test_what_is_no_event_is_named() -> None:
    for data in (b"", b"[]", b"{}"):
        with pytest.raises(EventDecodeError, match="'a' is no event"):
            canonical("a", data)


def test_handlers_of_orders_and_those_that_return_some_skip_replays() -> None:
    def one(event: MarketDataEvent) -> OrderEvent | None: ...
    def several(event: MarketDataEvent) -> list[SignalEvent | OrderEvent]: ...
    def text(event: MarketDataEvent) -> Unknown[OrderEvent]: ...  # type: ignore[name-defined] # noqa: F821
    def signal(event: MarketDataEvent) -> SignalEvent: ...
    def nothing(event): ...  # type: ignore[no-untyped-def]

    for function in (one, several, text):
        assert default_on_replay(function, [MarketDataEvent]) == "skip"
    for function in (signal, nothing):
        assert default_on_replay(function, [MarketDataEvent]) == "run"
    assert default_on_replay(nothing, [FillEvent]) == "run"
    assert default_on_replay(nothing, [FillEvent, OrderEvent]) == "skip"
