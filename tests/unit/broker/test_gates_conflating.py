"""Gates that conflate: only the newest of a key runs, never an older one after a newer one."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.unit.broker.gates_world import ME, SOURCES, Entry, State, World

from streamatiq.broker.claimed import Claimed

PICK = st.integers(0, 1000)
SOURCE = SOURCES[0]


class ConflatingMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(conflate=True)
        self.world.gates.own(SOURCE, ME)
        self.world.owned.add(SOURCE)
        #: What was taken of each key and not put back: run, or it comes back for a retry.
        self.taken: dict[str | None, list[int]] = {}

    def _pick(self, pick: int, *states: State) -> Entry | None:
        found = self.world.of(*states)
        return found[pick % len(found)] if found else None

    def _dropped(self, needless: Sequence[Claimed]) -> None:
        for claimed in needless:
            one = self.world.by_claim(claimed)
            assert one.state is State.WAITING
            newer = [
                other.number
                for other in self.world.of(State.WAITING)
                if other.key == one.key and other.number > one.number
            ]
            newer += [number for number in self.taken.get(one.key, ()) if number > one.number]
            assert newer, "nothing newer is here, and it was dropped"
            one.state = State.ENDED

    def _put(self, entries: list[Entry]) -> None:
        for one in entries:
            one.state = State.WAITING
        self._dropped(self.world.gates.put([one.claim() for one in entries]))

    @rule(keys=st.lists(st.sampled_from("ABC"), min_size=1, max_size=6))
    def publish(self, keys: list[str]) -> None:
        for key in keys:
            self.world.entries.append(Entry(SOURCE, len(self.world.entries), key))

    @rule(count=st.integers(1, 20))
    def fetch(self, count: int) -> None:
        self._put(self.world.of(State.UNREAD)[:count])

    @rule(pick=PICK)
    def come_back(self, pick: int) -> None:
        one = self._pick(pick, State.AWAY)
        if one is not None:
            self._put([one])

    @rule(most=st.integers(1, 4))
    def pop(self, most: int) -> None:
        world = self.world
        waiting = world.of(State.WAITING)
        free = {one.key for one in waiting if not world.runs(one.gate)}
        taken = world.gates.pop(most)
        assert len(taken) == min(most, len(free))
        for claimed in taken:
            one = world.by_claim(claimed)
            assert not world.runs(one.gate), "two at once"
            assert one.number == max(other.number for other in waiting if other.key == one.key)
            assert all(one.number >= number for number in self.taken.get(one.key, ())), "backwards"
            self.taken.setdefault(one.key, []).append(one.number)
            one.state, one.claimed = State.RUNNING, claimed

    @rule(pick=PICK, returns=st.booleans())
    def end(self, pick: int, returns: bool) -> None:
        one = self._pick(pick, State.RUNNING)
        if one is not None:
            assert one.claimed is not None
            self.world.gates.ended(one.claimed, returns=returns)
            one.state, one.claimed = (State.AWAY if returns else State.ENDED), None

    @rule(pick=PICK)
    def put_back(self, pick: int) -> None:
        one = self._pick(pick, State.RUNNING)
        if one is not None:
            assert one.claimed is not None
            claimed, one.claimed, one.state = one.claimed, None, State.WAITING
            self.taken[one.key].remove(one.number)
            self._dropped(self.world.gates.put_back([claimed]))

    @rule()
    def drain(self) -> None:
        for claimed in self.world.gates.drain(None):
            self.world.by_claim(claimed).state = State.AWAY
        assert not self.world.of(State.WAITING)

    @invariant()
    def one_of_a_key_waits(self) -> None:
        waiting = [one.key for one in self.world.of(State.WAITING)]
        assert len(waiting) == len(set(waiting))
        assert self.world.gates.ready + self.world.gates.waiting == len(waiting)

    def teardown(self) -> None:
        world = self.world
        while world.of(State.UNREAD, State.AWAY, State.WAITING, State.RUNNING):
            for one in world.of(State.AWAY):
                self._put([one])
            self.fetch(100)
            for one in world.of(State.RUNNING):
                assert one.claimed is not None
                world.gates.ended(one.claimed, returns=False)
                one.state, one.claimed = State.ENDED, None
            self.pop(4)
        for key in {one.key for one in world.entries}:
            newest = max(one.number for one in world.entries if one.key == key)
            assert newest in self.taken[key], "the newest was never handled"
        assert not world.gates._gates


TestConflating = ConflatingMachine.TestCase
TestConflating.settings = settings(stateful_step_count=30, deadline=None)


def test_an_entry_that_is_here_twice_stays_under_the_present_name() -> None:
    """It was claimed anew while a batch of the old name ran, which then failed and is split."""
    for old_comes_last in (True, False):
        world = World(conflate=True)
        entry = Entry(SOURCE, 0, "A")
        new = entry.claim()
        old = new._replace(consumer="old")
        world.gates.own(SOURCE, "old")
        world.gates.put([old])
        assert world.gates.pop(1) == [old]
        world.gates.disown(SOURCE)
        world.gates.own(SOURCE, ME)
        if old_comes_last:
            assert world.gates.put([new]) == []
            assert world.gates.put_back([old]) == [old]
        else:
            assert world.gates.put_back([old]) == []
            assert world.gates.put([new]) == [old]
        assert world.gates.pop(1) == [new]
