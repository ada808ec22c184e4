"""How much a process takes: enough for its threads, and for a moment ahead at its present speed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamatiq.broker.room import AHEAD_S, Room


def _room(*, batch: int = 100, prefetch: int = 16, threads: int = 8, rate: float = 0.0) -> Room:
    room = Room(batch)
    room.size(prefetch, threads)
    now_s = 0.0
    room.observe(0, now_s)
    while rate:
        before = room._rate
        now_s += 1.0
        room.observe(int(rate), now_s)
        if abs(room._rate - before) < 1e-6 * rate:
            break
    return room


def test_slow_handlers_hold_what_their_threads_run() -> None:
    assert _room().may_hand_out() == 8
    assert _room().target() == 8
    assert _room(rate=110).target() == 8 + int(110 * AHEAD_S)


def test_fast_handlers_get_the_whole_prefetch_and_a_batch_ahead() -> None:
    room = _room(rate=20_000)
    assert room.may_hand_out() == 16
    assert room.target() == 16 + 100


def test_a_prefetch_that_was_asked_for_is_kept() -> None:
    assert _room(prefetch=5).may_hand_out() == 5
    assert _room(prefetch=1, rate=20_000).may_hand_out() == 1
    assert _room(prefetch=1, rate=20_000).target() == 1


def test_nothing_is_fetched_until_half_of_the_room_is_free() -> None:
    room = _room(rate=20_000)  # holds 116
    assert room.worth_fetching(42, 16)
    assert not room.worth_fetching(43, 16)
    # An empty buffer and a free slot: a thread waits.
    assert room.worth_fetching(0, 15)
    assert not room.worth_fetching(0, 116)


def test_a_first_look_measures_nothing() -> None:
    room = Room(100)
    room.size(2, 1)
    room.observe(1_000_000, 5.0)
    assert room.target() == 1
    room.observe(1_000_000, 5.0)  # at the same moment: no speed
    assert room.target() == 1


@given(
    st.integers(1, 1000),
    st.integers(1, 64),
    st.integers(1, 64),
    st.lists(st.tuples(st.integers(0, 5000), st.floats(0.0001, 5)), max_size=20),
    st.integers(0, 200),
    st.integers(0, 200),
)
def test_the_room_is_bounded_and_a_starving_thread_always_gets_something(
    batch: int,
    prefetch: int,
    threads: int,
    observed: list[tuple[int, float]],
    buffered: int,
    handed_out: int,
) -> None:
    room = Room(batch)
    room.size(prefetch, threads)
    now_s = 0.0
    for released, passed_s in observed:
        now_s += passed_s
        room.observe(released, now_s)
    assert 1 <= room.may_hand_out() <= prefetch
    assert room.may_hand_out() <= room.target() <= prefetch + batch
    if buffered == 0 and handed_out < room.may_hand_out():
        assert room.worth_fetching(buffered, handed_out)
    if buffered + handed_out > room.target():
        assert not room.worth_fetching(buffered, handed_out)
