"""The local buffer: lanes, slots, a paused consumer, and its end; with real threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.support import wait_until

from streamatiq.broker import buffer as module
from streamatiq.broker.buffer import PAUSED, Buffer
from streamatiq.broker.claimed import Claimed
from streamatiq.broker.in_flight import InFlight
from streamatiq.broker.keys import Keys
from streamatiq.broker.work_queues import WorkQueue

HIGH, NORMAL, LOW = WorkQueue(Keys("unit"), "default").sources


def _claimed(source: Any, number: int) -> Claimed:
    return Claimed(source, "me", f"{number}-0".encode(), [], None, 0)


def _buffer(threads: int = 2) -> tuple[Buffer, InFlight]:
    in_flight = InFlight()
    return Buffer(in_flight, threads=threads, batch_size=100), in_flight


def _in_thread(action: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(action()), daemon=True)
    thread.start()
    return thread, results


def test_higher_lanes_first_and_each_in_its_order() -> None:
    buffer, in_flight = _buffer()
    buffer.put([_claimed(LOW, 1), _claimed(NORMAL, 2), _claimed(HIGH, 3), _claimed(HIGH, 4)])
    assert len(in_flight) == 4
    found = [buffer.take(16, 0) for _ in range(4)]
    assert [one and one.entry_id for one in found] == [b"3-0", b"4-0", b"2-0", b"1-0"]
    assert buffer.take(16, 0) is None
    assert len(in_flight) == 4  # until they are settled


def test_no_more_is_handed_out_than_there_are_slots() -> None:
    buffer, _ = _buffer(threads=2)
    buffer.put([_claimed(NORMAL, n) for n in range(5)])
    assert buffer.take(4, 0)
    assert buffer.take(4, 0)
    assert buffer.take(4, 0) is None  # two slow threads
    taker, taken = _in_thread(lambda: buffer.take(4, 10))
    buffer.ended([(None, False)])
    taker.join(10)
    assert taken[0].entry_id == b"2-0"


def test_a_take_waits_for_what_is_put() -> None:
    buffer, _ = _buffer()
    taker, taken = _in_thread(lambda: buffer.take(4, 10))
    buffer.put([_claimed(NORMAL, 7)])
    taker.join(10)
    assert taken[0].entry_id == b"7-0"


def test_room_is_given_again_when_slots_become_free() -> None:
    buffer, _ = _buffer(threads=1)
    assert buffer.take(2, 0) is None
    assert buffer.wait_for_room() == 1
    buffer.put([_claimed(NORMAL, 1)])
    reader, room = _in_thread(buffer.wait_for_room)
    assert buffer.take(2, 0)
    assert not room  # it runs: nothing to fetch for
    buffer.ended([(None, False)])
    reader.join(10)
    assert room[0] >= 1  # as many as it runs in a moment, by then


def test_a_paused_consumer_is_noticed_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    buffer, _ = _buffer()
    buffer.put([_claimed(NORMAL, 1)])
    clock[0] += module.PAUSE_S + 0.1
    assert buffer.wait_for_room() == PAUSED
    assert [one.entry_id for one in buffer.drain()] == [b"1-0"]
    resumed, _ = _in_thread(buffer.wait_for_resume)
    assert resumed.is_alive()
    assert buffer.take(2, 0) is None
    resumed.join(10)
    assert not resumed.is_alive()
    assert buffer.wait_for_room() > 0


def test_a_consumer_that_waits_in_take_is_not_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer, _ = _buffer()
    taker, taken = _in_thread(lambda: buffer.take(2, 10))
    wait_until(lambda: buffer._taking == 1)
    monkeypatch.setattr(module, "PAUSE_S", -1.0)
    assert buffer.wait_for_room() > 0
    buffer.put([_claimed(NORMAL, 1)])
    taker.join(10)
    assert taken


def test_close_ends_all_waiting_and_leaves_what_is_there() -> None:
    buffer, _ = _buffer(threads=1)
    buffer.put([_claimed(NORMAL, n) for n in range(3)])
    assert buffer.take(2, 0)
    reader, room = _in_thread(buffer.wait_for_room)
    buffer.close()
    reader.join(10)
    assert room == [0]
    buffer.wait_for_resume()  # at once
    assert [one.entry_id for one in buffer.drain()] == [b"1-0", b"2-0"]
    assert buffer.drain() == []


def test_every_entry_is_taken_once_by_many_threads() -> None:
    buffer, _ = _buffer(threads=4)
    wanted = [f"{n}-0".encode() for n in range(500)]
    taken: list[bytes] = []

    def take_all() -> None:
        while (one := buffer.take(8, 0.5)) is not None:
            taken.append(one.entry_id)
            buffer.ended([(None, False)])

    takers = [_in_thread(take_all)[0] for _ in range(4)]
    for start in range(0, 500, 25):
        assert buffer.wait_for_room() > 0
        buffer.put([_claimed((HIGH, NORMAL, LOW)[n % 3], n) for n in range(start, start + 25)])
    for taker in takers:
        taker.join(10)
    assert sorted(taken) == sorted(wanted)
