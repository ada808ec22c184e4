"""What a process holds, compared with what the server counts as its own; and being alone."""

from __future__ import annotations

import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.support import wait_until

from streamatiq.broker.in_flight import Held, InFlight
from streamatiq.broker.keys import Keys
from streamatiq.broker.sources import Source
from streamatiq.broker.work_queues import WorkQueue

SOURCES: list[Source] = WorkQueue(Keys("unit"), "default").sources
IDS = [f"{n}-0".encode() for n in range(6)]


def held_as(name: str, at: int, entry: bytes) -> Held:
    return (SOURCES[at].keys.entries, SOURCES[at].group, name, entry)


class Comparing(RuleBasedStateMachine):
    """The server's list of pending entries, and replies that are lost on the way.

    Between the server's answer and the look at what is held, an entry may be settled: so what is
    missing once proves nothing, and what is missing at two looks in a row is lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.in_flight = InFlight()
        self.pending: dict[int, set[bytes]] = {0: set(), 1: set()}
        self.held: dict[int, set[bytes]] = {0: set(), 1: set()}
        self.missed: dict[int, set[bytes]] = {0: set(), 1: set()}

    @rule(at=st.integers(0, 1), entry=st.sampled_from(IDS), arrives=st.booleans())
    def claim(self, at: int, entry: bytes, arrives: bool) -> None:
        if entry in self.pending[at]:
            return
        self.pending[at].add(entry)
        if arrives:
            self.held[at].add(entry)
            self.in_flight.add([held_as("me", at, entry)])

    @rule(at=st.integers(0, 1), entry=st.sampled_from(IDS))
    def settle(self, at: int, entry: bytes) -> None:
        if entry in self.held[at]:
            self.pending[at].discard(entry)
            self.held[at].discard(entry)
        self.in_flight.remove([held_as("me", at, entry)])

    @rule(at=st.integers(0, 1), settled=st.sets(st.sampled_from(IDS), max_size=2))
    def compare(self, at: int, settled: set[bytes]) -> None:
        answer = set(self.pending[at])
        for entry in settled:  # after the server's answer, before our look
            self.settle(at, entry)
        missing = answer - self.held[at]
        lost, doubtful = self.in_flight.lost(SOURCES[at], "me", sorted(answer))
        assert lost == sorted(missing & self.missed[at])
        assert doubtful == bool(missing - self.missed[at])
        assert not set(lost) & self.held[at]
        self.missed[at] = missing - set(lost)

    @invariant()
    def knows_how_much_it_holds(self) -> None:
        assert len(self.in_flight) == sum(map(len, self.held.values()))


TestComparing = Comparing.TestCase
TestComparing.settings = settings(stateful_step_count=30, deadline=None)


def test_entries_of_another_name_are_not_ours() -> None:
    """After a fence the same entry may be claimed again, under the new name."""
    in_flight = InFlight()
    in_flight.add([held_as("old", 0, IDS[0])])
    assert in_flight.lost(SOURCES[0], "new", [IDS[0]]) == ([], True)
    assert in_flight.lost(SOURCES[0], "new", [IDS[0]]) == ([IDS[0]], False)
    assert in_flight.lost(SOURCES[0], "old", [IDS[0]]) == ([], False)


def test_one_intake_alone_waits_for_what_is_held_and_keeps_the_others_back() -> None:
    in_flight = InFlight()
    held = [held_as("me", 0, IDS[0])]
    in_flight.add(held)
    first, second = object(), object()
    told: list[str] = []

    def alone() -> None:
        assert in_flight.begin_alone(first, 10)
        told.append("alone")

    def other() -> None:
        in_flight.wait_for_turn()
        told.append("other")

    quiet = threading.Thread(target=alone)
    quiet.start()
    wait_until(lambda: not in_flight.begin_alone(second, 0))  # asked for before
    assert in_flight.someone_is_alone()
    waiting = threading.Thread(target=other)
    waiting.start()
    in_flight.remove(held)
    quiet.join(10)
    assert told == ["alone"]
    in_flight.end_alone()
    waiting.join(10)
    assert told == ["alone", "other"]


@pytest.mark.parametrize("timeout_s", [0, 0.01])
def test_who_does_not_become_alone_keeps_nobody_back(timeout_s: float) -> None:
    in_flight = InFlight()
    held = [held_as("me", 0, IDS[0])]
    in_flight.add(held)
    assert not in_flight.begin_alone("a", timeout_s)
    in_flight.wait_for_turn()
    assert not in_flight.someone_is_alone()
    assert not in_flight.wait_until_empty(timeout_s)
    in_flight.remove(held)
    assert in_flight.wait_until_empty(0)
    assert in_flight.begin_alone("b", 0)


def test_an_entry_that_is_claimed_again_before_its_first_delivery_is_out_stays_held() -> None:
    """Parked and due at once: the next fetch may be quicker than the committer's book-keeping."""
    in_flight = InFlight()
    held = [held_as("me", 0, IDS[0])]
    in_flight.add(held)
    in_flight.add(held)
    in_flight.remove(held)
    assert in_flight.lost(SOURCES[0], "me", [IDS[0]]) == ([], False)
    in_flight.remove(held)
    in_flight.remove(held)
    assert len(in_flight) == 0
