"""Gates against a naive model: whatever happens, each key one by one, in order, nothing lost."""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.unit.broker.gates_world import ME, SOURCES, Entry, State, World

from streamatiq.broker.claimed import Claimed

KEY = st.sampled_from(["A", "B", "C", None])
PICK = st.integers(0, 1000)


class GatesMachine(RuleBasedStateMachine):
    """`claimed` of an entry is set while this process runs it, also after it gave it up."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        #: What each key has run and ended, in order; entries run again may repeat.
        self.done: dict[object, list[int]] = {}

    def _pick(self, pick: int, *states: State) -> Entry | None:
        found = self.world.of(*states)
        return found[pick % len(found)] if found else None

    def _put(self, entries: list[Entry]) -> None:
        for one in entries:
            one.state = State.WAITING
        assert self.world.gates.put([one.claim() for one in entries]) == []

    # -- what may happen -----------------------------------------------------------------------

    @rule(where=st.integers(0, 1), keys=st.lists(KEY, min_size=1, max_size=6))
    def publish(self, where: int, keys: list[str | None]) -> None:
        for key in keys:
            self.world.entries.append(Entry(SOURCES[where], len(self.world.entries), key))

    @rule(where=st.integers(0, 1), count=st.integers(1, 20))
    def fetch(self, where: int, count: int) -> None:
        """As the script does: what was parked or handed back first, then new ones."""
        source = SOURCES[where]
        if source not in self.world.owned:
            return
        there = [one for one in self.world.entries if one.source is source]
        new = [one for one in there if one.state is State.UNREAD][:count]
        self._put(new)

    @rule(pick=PICK)
    def come_back(self, pick: int) -> None:
        one = self._pick(pick, State.AWAY)
        if one is not None and one.source in self.world.owned:
            one.cap = 0
            self._put([one])

    @rule(most=st.integers(1, 6))
    def pop(self, most: int) -> None:
        world = self.world
        ready = {
            one.gate
            for one in world.of(State.WAITING)
            if world.may_run(one) and not world.is_stopped(one)
        }
        taken = world.gates.pop(most)
        assert len(taken) <= most
        assert taken or not ready, f"{ready} may run"
        caps = [world.by_claim(one).cap for one in taken if world.by_claim(one).cap]
        assert not caps or len(taken) <= min(caps)
        begun: set[object] = set()
        for claimed in taken:
            entry = world.by_claim(claimed)
            assert entry.state is State.WAITING
            assert not world.is_stopped(entry) or entry.gate in begun
            ahead = [one for one in world.before(entry) if one.state is not State.RUNNING]
            assert not ahead, "something before it has not run"
            assert entry.gate in begun or not world.runs(entry.gate), "two at once"
            begun.add(entry.gate)
            entry.state, entry.claimed = State.RUNNING, claimed

    @rule(pick=PICK)
    def end(self, pick: int) -> None:
        one = self._pick(pick, State.RUNNING)
        if one is not None:
            self._end(one)

    def _end(self, one: Entry) -> None:
        assert one.claimed is not None
        self.world.gates.ended(one.claimed, returns=False)
        one.state, one.claimed = State.ENDED, None
        self.done.setdefault(one.gate, []).append(one.number)

    @rule(pick=PICK)
    def park(self, pick: int) -> None:
        """It failed, and with it what stands behind it in its batch."""
        first = self._pick(pick, State.RUNNING)
        for one in self.world.of(State.RUNNING):
            if first is not None and one.gate == first.gate and one.number >= first.number:
                assert one.claimed is not None
                self.world.gates.ended(one.claimed, returns=True)
                one.state, one.claimed = State.AWAY, None

    @rule(pick=PICK, size=st.integers(1, 4))
    def split(self, pick: int, size: int) -> None:
        """A batch fails: what was taken of it goes back, to be run in parts."""
        running = self.world.of(State.RUNNING)
        several = running[pick % len(running) :][:size] if running else []
        # All that runs of a key is in one batch.
        gates = {one.gate for one in several}
        several = [one for one in running if one.gate in gates]
        back: list[Claimed] = []
        for one in several:
            assert one.claimed is not None
            one.state, one.cap = State.WAITING, max(1, len(several) // 2)
            back.append(one.claimed._replace(cap=one.cap))
            one.claimed = None
        if back:
            assert self.world.gates.put_back(back) == []

    @rule()
    def drain(self) -> None:
        drained = self.world.gates.drain(None)
        assert len(drained) == len(self.world.of(State.WAITING))
        for claimed in drained:
            one = self.world.by_claim(claimed)
            one.state = State.AWAY
            if one.key is not None and one.source in self.world.owned:
                assert one.entry_id in self.world.gates.expected(one.source)[one.key]

    @rule(where=st.integers(0, 1))
    def disown(self, where: int) -> None:
        source = SOURCES[where]
        gone = self.world.gates.disown(source)
        self.world.owned.discard(source)
        waiting = [one for one in self.world.of(State.WAITING) if one.source is source]
        assert {one.entry_id for one in gone} == {one.entry_id for one in waiting}
        for one in waiting:
            one.state = State.AWAY
        for one in self.world.of(State.RUNNING):
            if one.source is source:
                one.state = State.ELSEWHERE

    @rule(where=st.integers(0, 1), others=st.integers(0, 3))
    def own(self, where: int, others: int) -> None:
        """Meanwhile somebody else had it, and still runs some."""
        source = SOURCES[where]
        if source in self.world.owned:
            return
        unread = [
            one for one in self.world.entries if one.source is source and one.state is State.UNREAD
        ]
        for one in unread[:others]:
            one.state = State.ELSEWHERE
        self.world.gates.own(source, ME)
        self.world.owned.add(source)
        expected: dict[str, list[bytes]] = {}
        for one in self.world.of(State.AWAY, State.ELSEWHERE):
            if one.source is source and one.key is not None:
                expected.setdefault(one.key, []).append(one.entry_id)
        for key, ids in expected.items():
            self.world.gates.expect(source, key, ids)

    @rule(pick=PICK, returns=st.booleans())
    def end_elsewhere(self, pick: int, returns: bool) -> None:
        one = self._pick(pick, State.ELSEWHERE)
        if one is None:
            return
        one.state = State.AWAY if returns else State.ENDED
        if one.claimed is not None:
            self.world.gates.ended(one.claimed, returns=returns)
            one.claimed = None
        elif not returns and one.source in self.world.owned and one.key is not None:
            self.world.gates.gone(one.source, one.key, [one.entry_id])

    @rule(pick=PICK)
    def settled_by_hand(self, pick: int) -> None:
        """As an operator's XACK of a parked entry; found by comparing."""
        one = self._pick(pick, State.AWAY)
        if one is None or one.source not in self.world.owned:
            return
        one.state = State.ENDED
        key = one.gate[1]
        known = self.world.gates.expected(one.source).get(key, [])
        assert one.entry_id in known or one.key is None
        self.world.gates.gone(one.source, key, [one.entry_id])

    @rule(key=st.sampled_from("ABC"), for_s=st.sampled_from([1.0, 5.0, math.inf]))
    def close_key(self, key: str, for_s: float) -> None:
        self.world.doors.closed[key] = self.world.clock.now + for_s

    @rule(key=st.sampled_from("ABC"))
    def open_key(self, key: str) -> None:
        self.world.doors.closed.pop(key, None)
        self.world.gates.recheck()

    @rule()
    def time_passes(self) -> None:
        self.world.clock.now += 2.0

    # -- what must always hold -----------------------------------------------------------------

    @invariant()
    def counts_are_right(self) -> None:
        gates, world = self.world.gates, self.world
        waiting = len(world.of(State.WAITING))
        assert gates.ready + gates.waiting == waiting
        assert gates.ready >= 0
        assert gates.waiting >= 0
        assert 0 <= gates.soon <= gates.waiting
        live = sum(
            len(gate.waiting)
            for gate in gates._gates.values()
            if gate.waiting and gate not in gates._held and gate.may_pass(gate.waiting[0][0])
        )
        assert gates.soon + gates.ready == live
        assert gates._whole == sum(
            bool(one.fields) for gate in gates._gates.values() for _, one in gate.waiting
        )
        runnable = {one.gate for one in world.of(State.WAITING) if world.may_run(one)}
        assert gates.ready <= len(runnable)
        if world.doors.quiet and not gates._held:
            assert gates.ready == len(runnable)

    @invariant()
    def nothing_idle_is_kept(self) -> None:
        kept = {
            one.gate
            for one in self.world.entries
            if one.state in (State.WAITING, State.RUNNING)
            or one.claimed is not None
            or (one.source in self.world.owned and one.state in (State.AWAY, State.ELSEWHERE))
        }
        assert set(self.world.gates._gates) <= kept
        assert {gate.at for gate in self.world.gates._held} <= set(self.world.gates._gates)

    @invariant()
    def who_waits_for_a_guard_is_looked_at_in_time(self) -> None:
        gates = self.world.gates
        for gate in gates._held:
            assert gate.held_until is not None
            assert gates.next_look <= gate.held_until

    def teardown(self) -> None:
        """With every obstacle gone everything runs, once, each key in its order."""
        world = self.world
        world.doors.closed.clear()
        world.gates.recheck()
        for where in (0, 1):
            self.own(where, 0)
        for one in world.of(State.ELSEWHERE):
            one.state = State.ENDED
            if one.claimed is not None:
                world.gates.ended(one.claimed, returns=False)
                one.claimed = None
            elif one.key is not None:
                world.gates.gone(one.source, one.key, [one.entry_id])
        for one in world.of(State.AWAY):
            self._put([one])
        for where in (0, 1):
            self.fetch(where, len(world.entries))
        begun: dict[object, list[int]] = {}
        while world.of(State.WAITING, State.RUNNING):
            for one in world.of(State.RUNNING):
                begun.setdefault(one.gate, []).append(one.number)
                self._end(one)
            self.pop(3)
        for numbers in begun.values():
            assert numbers == sorted(numbers)
        assert not world.gates._gates
        assert not world.gates._held
        assert world.gates.ready == world.gates.waiting == 0
        world.clock.now = math.inf
        world.gates.pop(1)
        assert world.gates.next_look == math.inf


TestGates = GatesMachine.TestCase
TestGates.settings = settings(stateful_step_count=40, deadline=None)
