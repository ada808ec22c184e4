"""The state machine: everything that may happen to a broker, in any order.

Its rules are in the modules that it is derived from: `producing`, `dying`, `reclaiming`, `ending`,
`taking`; here are those of time and of the server. `proof` is how an example ends. What is proved
stands in `docs/guarantees.md`.
"""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import invariant, rule
from tests.integration.state_machine.acting import QUEUES, any_of
from tests.integration.state_machine.producing import Producing
from tests.integration.state_machine.proof import prove
from tests.integration.state_machine.reference import ms

from streamatiq.broker.keys import LogKeys

__all__ = ["Machine"]


class Machine(Producing):
    """All rules."""

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
        if group in QUEUES:
            delayed = self.model.delayed[group]
            key = self.example.layout.work[group].keys.delayed
            for place, (member, held) in enumerate(delayed.items()):
                due = float(order[place % len(order)] if order else place)
                admin.zadd(key, {member: due})
                held.due = due

    @rule(which=any_of)
    def age_ids(self, which: int) -> None:
        """A window passes for the ids of one published log."""
        keys = sorted(key for key in self.example.log_keys if "effect" not in key)
        key = keys[which % len(keys)]
        if self.model.ids[key].young:
            self.example.admin.pexpire(self.example.log_keys[key].ids, 200_000)
            self.model.ids[key].aged = True

    @rule(which=any_of, place=any_of)
    def age_marks(self, which: int, place: int) -> None:
        """A window passes for one subscription's done marks."""
        group = ("alpha", "beta", "gamma")[which % 3]
        sources = self.sources(group)
        source = sources[place % len(sources)]
        state = self.model.sources[source.keys.entries, group]
        if state.marks.young:
            self.example.admin.pexpire(source.keys.done, 200_000)
            state.marks.aged = True

    @rule()
    def break_log(self) -> None:
        """A key of the effects' log holds something else: nothing can be emitted."""
        log = self._effects()
        if not self.example.admin.exists(log.ids_old):
            self.example.admin.set(log.ids_old, "not ours")
            self.model.misplaced[log.entries] = (
                f"WRONGTYPE {log.ids_old} holds a string and not a hash"
            )

    @rule()
    def mend_log(self) -> None:
        log = self._effects()
        if self.model.misplaced.pop(log.entries, None):
            self.example.admin.delete(log.ids_old)

    def _effects(self) -> LogKeys:
        return next(log for key, log in self.example.log_keys.items() if "effect" in key)

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
        finally:
            for process in [*self.processes, *self.ghosts]:
                process.close()
            self.example.close()
