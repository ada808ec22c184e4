"""Rules: processes take entries."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import rule
from tests.integration.state_machine.acting import Acting, any_of
from tests.integration.state_machine.ledger import unit_of
from tests.integration.state_machine.process import Process

from streamatiq.broker import scripts
from streamatiq.broker.reader import Wake
from streamatiq.broker.scripts import Fetched
from streamatiq.broker.sources import Source

__all__ = ["Taking"]


class Taking(Acting):
    """Fetches, blocking reads, suspects, and what a lost reply has left behind."""

    def _enlist(self, process: Process, group: str) -> None:
        if process.enlisted.get(group) != process.name:
            name = process.name
            process.enlist(group)
            self.model.enlist(name, group)

    @rule(
        who=any_of,
        which=any_of,
        room=st.integers(1, 6),
        turn=any_of,
        cut=st.sampled_from((False, False, False, True)),
        looks=st.booleans(),
    )
    def fetch(self, who: int, which: int, room: int, turn: int, cut: bool, looks: bool) -> None:
        """A fetch; if its reply is lost, the process may look for that at once."""
        process = self.process(who)
        group = self.group(which, lambda one: one.unread or one.parked)
        sources = self.sources(group)
        rotating = group in self.example.layout.rotating
        if rotating:
            turn %= len(sources)
            sources = [*sources[turn:], *sources[:turn]]
        self.take(process, group, sources, room=room, cut=cut)
        if cut and looks:
            self.verify()
            self.compare_group(process, group)

    @rule(
        who=any_of,
        which=any_of,
        cut=st.sampled_from((False, False, False, True)),
        others=st.integers(0, 2),
    )
    def take_suspect(self, who: int, which: int, cut: bool, others: int) -> None:
        """A process, and others after it, ask for an entry that may have killed its worker."""
        group = self.group(which, lambda one: one.suspects)
        for place in range(1 + others):
            process = self.process(who + place)
            self.take(process, group, self.sources(group), room=1, cut=cut, alone=True)
            self.verify()

    def take(
        self,
        process: Process,
        group: str,
        sources: list[Source],
        *,
        room: int,
        cut: bool = False,
        alone: bool = False,
    ) -> int:
        """One fetch; returns how many entries were handed out."""
        self._enlist(process, group)
        name, intake, queue = process.name, process.intake(group), self.queue(group)
        by_lane = group not in self.example.layout.rotating and len(sources) > 1
        aged = self._aged(sources) if by_lane and not alone else []
        if aged:
            # With less room than four it is a matter of the clock whether the lane has a turn.
            states = [self.model.sources[one.keys.entries, group] for one in sources]
            room = max(room, 4 + sum(len(one.parked) for one in states))
        call = scripts.fetch(
            [source.keys for source in sources],
            self.example.layout.delayed(group),
            group=group,
            consumer=name,
            room=room,
            alone=alone,
            lanes=by_lane and not alone,
        )
        expected: list[Any] = []
        with self.example.cutting(int(cut)):
            fetched = self.attempt(
                lambda: intake.link.run(call),
                lambda model: expected.append(
                    model.fetch(sources, queue, name, room, alone=alone, aged=aged)
                ),
            )
        if fetched is None:
            intake.lost()
            process.enlisted.pop(group)
            return 0
        self.verify()
        return self._keep(process, group, sources, fetched, expected[-1])

    def _keep(
        self, process: Process, group: str, sources: list[Source], fetched: Fetched, expected: Any
    ) -> int:
        name = process.name
        if expected == "FENCED":
            assert fetched.error == "FENCED", f"fenced, and got {fetched}"
            process.identity.fenced(name)
            return 0
        assert not fetched.error, fetched.error
        blocks = [
            (sources[one.source], [entry for entry, _ in one.entries], list(one.options))
            for one in fetched.blocks
        ]
        should = [
            (source, [one.entry_id for one in entries], options)
            for source, entries, options in expected
        ]
        for (source, ids, options), (source2, ids2, options2) in zip(blocks, should, strict=True):
            assert (source, ids) == (source2, ids2), f"fetch took {blocks}, should take {should}"
            assert (options or [None] * len(ids)) == options2, f"retry state {options}, {options2}"
        process.intake(group).keep(sources, fetched, name)
        return self._hand_out(process, group)

    def _hand_out(self, process: Process, group: str) -> int:
        """What the intake kept goes to handlers; what must not run is settled."""
        cancelled = set(self.model.cancelled.get(group, ()))
        taken = process.take(group)
        for delivery in taken:
            unit = unit_of(delivery.data)
            assert unit not in cancelled, f"{unit} was cancelled, and is handed out"
        self.ledger.handed_out(taken)
        dropped = len(process.collected.settlements)
        self.commit_collected(process)
        return len(taken) + dropped

    def _aged(self, sources: list[Source]) -> list[int]:
        """Places of the lanes that `age_lane` has aged. Those that time alone has are set back."""
        admin = self.example.admin
        aged = []
        for place, source in enumerate(sources[1:], start=1):
            since: Any = admin.get(source.keys.passed)
            if since is None:
                continue
            if source.keys.passed in self.aged:
                aged.append(place)
            else:
                seconds, _ = admin.time()
                admin.set(source.keys.passed, seconds * 1000, ex=600)
        self.aged -= {source.keys.passed for source in sources}
        return aged

    @rule(which=any_of, lane=st.integers(1, 2))
    def age_lane(self, which: int, lane: int) -> None:
        layout = self.example.layout
        laned = [one for one in layout.groups if one not in layout.rotating]
        laned = [one for one in laned if len(self.sources(one)) > 1]
        group = laned[which % len(laned)]
        key = self.sources(group)[lane].keys.passed
        if self.example.admin.exists(key):
            self.example.admin.set(key, 1, ex=600)
            self.aged.add(key)

    @rule(who=any_of, which=any_of)
    def blocking_read(self, who: int, which: int) -> None:
        process, group = self.process(who), self.group(which, lambda one: one.unread)
        if group in self.example.layout.owned:
            return  # who reads these never claims anything by a read that blocks
        self._enlist(process, group)
        ended = process.intake(group).block(process.name)
        taken: list[Any] = []
        for source in self.sources(group):
            self.model.read(source, process.name, 1, taken)
        if taken:
            assert ended is Wake.ARRIVED
        self._hand_out(process, group)

    @rule(who=any_of, which=any_of)
    def compare(self, who: int, which: int) -> None:
        """What the server counts as this process's and it does not hold is handed back."""
        process = self.process(who)
        group = self.group(
            which, lambda one: any(p.owner == process.name for p in one.pending.values())
        )
        self.compare_group(process, group)

    def compare_group(self, process: Process, group: str) -> None:
        if process.enlisted.get(group) != process.name:
            self._enlist(process, group)
            self.verify()
        process.intake(group).compare(process.name)
        # Entries of different streams may have the same id.
        held = {
            (one.source.keys.entries, one.entry_id)
            for one in process.held
            if one.source.group == group
        }
        batch = process.collected.take()
        lost = {
            (source.keys.entries, one.entry_id)
            for source in self.sources(group)
            for one, pending in self.model.sources[source.keys.entries, group].pending.items()
            if pending.owner == process.name
        } - held
        found = {(one.source.keys.entries, one.entry_id) for one in batch}
        assert found == lost, f"found {found} to be lost, which are {lost}"
        self.commit(process, batch)
