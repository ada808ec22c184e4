"""Lanes with guards, against a naive model; and how partitions are shared."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.unit.broker.gates_world import ME, Clock, Doors, describe

from streamatiq.broker.claimed import Claimed
from streamatiq.broker.fair_shares import fair_shares
from streamatiq.broker.gatekeeping import Gatekeeper
from streamatiq.broker.keys import Keys
from streamatiq.broker.shelf import Lanes
from streamatiq.broker.work_queues import WorkQueue

LANES = WorkQueue(Keys("unit"), "default").sources
KEY = st.sampled_from("AB")


class LanesMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.doors = Doors(self.clock)
        self.lanes = Lanes(Gatekeeper(self.doors, describe), self.clock)
        #: All that is here, in the order in which it came.
        self.here: list[Claimed] = []
        self.running: list[Claimed] = []
        self.number = 0

    def _known(self, taken: list[Claimed]) -> list[Claimed]:
        found = [next(own for own in self.here if own.entry_id == one.entry_id) for one in taken]
        assert len({id(one) for one in found}) == len(found), "one entry twice"
        return found

    @rule(lane=st.integers(0, 2), keys=st.lists(KEY, min_size=1, max_size=5))
    def put(self, lane: int, keys: list[str]) -> None:
        new = []
        for key in keys:
            self.number += 1
            entry_id = b"%d-0" % self.number
            new.append(Claimed(LANES[lane], ME, entry_id, [b"m", b"x"], None, 0, key=key))
        assert self.lanes.put(new) == []
        self.here += new

    @rule(most=st.integers(1, 5))
    def pop(self, most: int) -> None:
        may = [one for one in self.here if self.doors.admit(describe(one)) is None]
        taken = self._known(self.lanes.pop(most))
        assert len(taken) <= most
        assert all(one in may for one in taken)
        # What had to wait for a guard until its time is looked at when that has come.
        assert taken or not may or self.lanes.next_look <= self.clock.now or self._held(may)
        for one in taken:
            behind = [x for x in taken[taken.index(one) + 1 :] if x.source.lane < one.source.lane]
            assert not behind, "a lower lane first"
        caps = [one.cap for one in taken if one.cap]
        assert not caps or len(taken) <= min(caps)
        self.here = [one for one in self.here if one not in taken]
        self.running += taken

    def _held(self, may: list[Claimed]) -> bool:
        held = [one for _, entries in self.lanes._held.values() for one in entries]
        return {one.entry_id for one in may} <= {one.entry_id for one in held}

    @rule()
    def end(self) -> None:
        for one in self.running:
            self.lanes.ended(one, returns=False)
        self.running.clear()

    @rule(cap=st.integers(1, 2))
    def put_back(self, cap: int) -> None:
        back = [one._replace(cap=cap) for one in self.running]
        assert self.lanes.put_back(back) == []
        self.here += back
        self.running.clear()

    @rule(key=KEY, for_s=st.sampled_from([1.0, math.inf]))
    def close_key(self, key: str, for_s: float) -> None:
        self.doors.closed[key] = self.clock.now + for_s

    @rule(key=KEY)
    def open_key(self, key: str) -> None:
        self.doors.closed.pop(key, None)
        self.lanes.recheck()

    @rule()
    def time_passes(self) -> None:
        self.clock.now += 2.0

    @rule()
    def drain(self) -> None:
        assert len(self._known(self.lanes.drain(None))) == len(self.here)
        self.here.clear()

    @invariant()
    def counts_are_right(self) -> None:
        assert self.lanes.ready + self.lanes.waiting == len(self.here)
        assert self.lanes.ready >= 0
        assert self.lanes.waiting >= 0

    def teardown(self) -> None:
        self.doors.closed.clear()
        self.lanes.recheck()
        while self.here:
            before = len(self.here)
            self.pop(3)
            assert len(self.here) < before
        assert self.lanes.next_look == math.inf


TestLanes = LanesMachine.TestCase
TestLanes.settings = settings(stateful_step_count=30, deadline=None)

NAMES = st.sets(st.sampled_from("ABCDEFG"), min_size=1, max_size=7)
OWNERS = st.lists(st.none() | st.sampled_from("ABCDEFGXYZ"), max_size=20)


@given(OWNERS, NAMES, st.randoms(use_true_random=False))
def test_shares_are_fair_and_few_partitions_move(
    owners: list[str | None], names: set[str], rng: object
) -> None:
    shares = fair_shares(owners, sorted(names))
    counts = Counter(shares)
    assert set(counts) <= names
    sizes = [counts[name] for name in names]
    assert max(sizes) - min(sizes) <= 1
    # Fewest moves: who has most keeps the larger shares.
    has = sorted((sum(one == name for one in owners) for name in names), reverse=True)
    least, left_over = divmod(len(owners), len(names))
    may_stay = sum(min(n, least + (at < left_over)) for at, n in enumerate(has))
    assert sum(a == b for a, b in zip(owners, shares, strict=True)) == may_stay
    # Whoever looks comes to the same.
    order = list(names)
    rng.shuffle(order)  # type: ignore[attr-defined]
    assert fair_shares(owners, order + order[:1]) == shares
    assert fair_shares(shares, order) == shares


def test_nobody_claims_anything() -> None:
    assert fair_shares(["A", None], []) == [None, None]
