"""Rules: processes die, again and again, or only sleep."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import rule
from tests.integration.state_machine import endings
from tests.integration.state_machine.acting import any_of
from tests.integration.state_machine.reclaiming import Reclaiming

__all__ = ["Dying"]


class Dying(Reclaiming):
    """Sequences that single rules would find too rarely."""

    @rule(who=any_of)
    def kill(self, who: int) -> None:
        self._die(self.holder(who))

    @rule(
        who=any_of,
        which=any_of,
        room=st.integers(1, 4),
        alone=st.booleans(),
        times=st.integers(2, 4),
        retried=st.booleans(),
    )
    def crash(
        self, who: int, which: int, room: int, alone: bool, times: int, retried: bool
    ) -> None:
        """An entry kills its workers, perhaps on a retry: it is claimed, the process dies and is
        reclaimed. What is suspected then is asked for by two at the same time."""
        wanted = (lambda one: one.suspects) if alone else (lambda one: one.parked or one.unread)
        group = self.group(which, wanted)
        if retried:
            self.take(self.process(who), group, self.sources(group), room=room)
            self.commit_all(self.process(who), group, endings.RETRY)
        for _ in range(times):
            process = self.process(who)
            if not self.take(process, group, self.sources(group), room=room, alone=alone):
                self.take(process, group, self.sources(group), room=room, alone=not alone)
            self._die(process)
            self.verify()
            if process.name in self.model.alive:
                self.bury(self.process(who), process.name)
            self.verify()
        if len(self.processes) < 2:
            self.start_process()
        self.take_suspect(who, which, False, 1)

    @rule(
        who=any_of,
        which=any_of,
        chosen=st.lists(endings.endings(), min_size=1, max_size=4),
        reads=st.booleans(),
        pages=st.integers(0, 3),
    )
    def wake_up_fenced(
        self, who: int, which: int, chosen: list[endings.Ending], reads: bool, pages: int
    ) -> None:
        """A process sleeps for too long, is reclaimed, perhaps in part (`pages`), and goes on: it
        reads, settles what it thinks it holds, and cleans up once it knows."""
        process = self.busy(who, which)
        if len(self.processes) < 2:
            self.start_process()
        by = next(one for one in self.processes if one is not process)
        self.verify()
        if pages:
            self.bury_partly(by, process.name, pages)
        else:
            self.bury(by, process.name)
        if reads:
            # It does not know yet, so it is not enlisted anew.
            for group in [one for one, name in process.enlisted.items() if name == process.name]:
                self.take(process, group, self.sources(group), room=4)
        self.verify()
        self.commit(process, self._ended(process, who, chosen))
        self.verify()
        self.beat(process)
