"""The state machine: everything that may happen to a broker, in any order.

Its rules are in the modules that it is derived from: `producing`, `surroundings`, `dying`,
`reclaiming`, `ending`, `taking`; here are those of windows and of a log that cannot be written.
`proof` is how an example ends. What is proved stands in `docs/guarantees.md`.
"""

from __future__ import annotations

from hypothesis.stateful import rule
from tests.integration.state_machine.acting import any_of
from tests.integration.state_machine.producing import Producing

from streamatiq.broker.keys import LogKeys

__all__ = ["Machine"]


class Machine(Producing):
    """All rules."""

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

    def mend(self) -> None:
        """See `Surroundings`."""
        self.mend_log()

    @rule()
    def mend_log(self) -> None:
        log = self._effects()
        if self.model.misplaced.pop(log.entries, None):
            self.example.admin.delete(log.ids_old)

    def _effects(self) -> LogKeys:
        return next(log for key, log in self.example.log_keys.items() if "effect" in key)
