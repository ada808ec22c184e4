"""Rules of time and of the server, and how an example ends."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import invariant, rule
from tests.integration.state_machine.acting import any_of
from tests.integration.state_machine.dying import Dying
from tests.integration.state_machine.proof import prove
from tests.integration.state_machine.reference import ms

__all__ = ["Surroundings"]


class Surroundings(Dying):
    """Time passes; connections, scripts and the server itself are lost."""

    def mend(self) -> None:
        """What rules have broken for good, so that an example can end."""

    def emits(self, group: str) -> bool:
        """Whether handlers of `group` emit events at the end of an example."""
        return group != "gamma"

    def kept_order(self) -> None:
        """All is settled: what was promised beyond that?"""

    @rule(which=any_of, order=st.lists(any_of, max_size=4))
    def come_due(self, which: int, order: list[int]) -> None:
        """Time passes: what is parked or delayed in one group is due, in some order."""
        later = lambda one: any(ms(due) > self.model.seen_ms for due in one.parked.values())  # noqa: E731
        self.make_due(self.group(which, later), order)

    def make_due(self, group: str, order: list[int]) -> None:
        admin = self.example.admin
        for source in self.sources(group):
            state = self.model.sources[source.keys.entries, group]
            later = [one for one, due in state.parked.items() if ms(due) > self.model.seen_ms]
            for place, one in enumerate(later):
                due = float(order[place % len(order)] if order else place)
                admin.zadd(source.keys.parked, {one.entry_id: due})
                state.parked[one] = due
        if group in self.example.layout.work:
            delayed = self.model.delayed[group]
            key = self.example.layout.work[group].keys.delayed
            for place, (member, held) in enumerate(delayed.items()):
                due = float(order[place % len(order)] if order else place)
                admin.zadd(key, {member: due})
                held.due = due

    @rule()
    def forget_scripts(self) -> None:
        self.example.admin.script_flush()

    @rule()
    def cut_connections(self) -> None:
        self.example.cut_off()
        self._reconnect()

    @rule()
    def restart_server(self) -> None:
        if self.restarts:
            return
        self.restarts += 1
        self.example.restart()
        self._reconnect()

    def _reconnect(self) -> None:
        """Threads of a process notice that their connection is lost, and open another."""
        for process in [*self.processes, *self.ghosts]:
            process.link.close()
            for group, intake in process._intakes.items():
                intake.lost()
                process.enlisted.pop(group, None)

    @invariant()
    def holds_what_the_model_says(self) -> None:
        self.world.steps += 1
        self.verify()

    def teardown(self) -> None:
        try:
            prove(self)
            self.world.settlements += len(self.model.settled)
        finally:
            for process in [*self.processes, *self.ghosts]:
                process.close()
            self.example.close()
