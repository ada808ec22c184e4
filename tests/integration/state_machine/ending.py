"""Rules: deliveries come to an end, and replies to settles are lost."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import rule
from tests.integration.state_machine import endings
from tests.integration.state_machine.acting import any_of, cuts, kept
from tests.integration.state_machine.process import Process
from tests.integration.state_machine.settling import STALE
from tests.integration.state_machine.taking import Taking

from streamatiq.broker.settlements import Settlement
from streamatiq.errors import CommandFailed

__all__ = ["Ending"]


class Ending(Taking):
    """Settles, by processes that live, die at that moment, or were dead all along."""

    def busy(self, who: int, which: int) -> Process:
        """A process that holds something; one that takes something, if none does."""
        process = self.holder(who)
        if not process.held:
            group = self.group(which, lambda one: one.parked or one.unread)
            self.take(process, group, self.sources(group), room=4)
        return process

    @rule(
        who=any_of,
        first=any_of,
        chosen=st.lists(endings.endings(), min_size=1, max_size=6),
        times=cuts,
        keep=kept,
    )
    def settle(
        self, who: int, first: int, chosen: list[endings.Ending], times: int, keep: int
    ) -> None:
        process = self.busy(who, first)
        batch = self._ended(process, first, chosen)
        with self.example.cutting(times, keep_bytes=keep):
            self.commit(process, batch)

    def commit_all(self, process: Process, group: str, ending: endings.Ending) -> None:
        """All that a process holds of one group ends so, in one batch."""
        batch: list[Settlement] = []
        for place in reversed(range(len(process.held))):
            if process.held[place].source.group == group:
                batch += self._ended(process, place, [ending])
        self.commit(process, batch)
        self.verify()

    def _ended(
        self, process: Process, first: int, chosen: list[endings.Ending]
    ) -> list[Settlement]:
        """Handlers of some of what is held come to an end; what the committer is told."""
        if not process.held:
            return []
        first %= len(process.held)
        done = process.held[first : first + len(chosen)]
        del process.held[first : first + len(chosen)]
        for delivery, ending in zip(done, chosen, strict=False):
            self.numbers += 1
            endings.end(process, self.example, delivery, ending, self.numbers)
        return process.collected.take()

    @rule(who=any_of, first=any_of, chosen=st.lists(endings.endings(), min_size=1, max_size=4))
    def die_while_settling(self, who: int, first: int, chosen: list[endings.Ending]) -> None:
        """The batch arrives, its reply does not, and the process is killed."""
        process = self.busy(who, first)
        batch = self._ended(process, first, chosen)
        if not batch:
            return
        number = process.batches + 1
        with self.example.cutting(1):
            assert process.send_once(number, batch) is None
        said = self.model.settle(process.writer, number, batch)
        self.ledger.settled(self.units, batch, said)  # type: ignore[arg-type]
        self.sent.append((process, number, batch))
        self._die(process)

    def _die(self, process: Process) -> None:
        self.processes.remove(process)
        self.ghosts.append(process)
        self.graves += [process.name, *process.identity.take_lost()]
        process.close()
        if not self.processes:
            self.start_process()

    @rule(which=any_of)
    def send_again(self, which: int) -> None:
        """A request was long on its way, or was repeated: one of the last batches once more."""
        if not self.sent:
            return
        process, number, batch = self.sent[-1 - which % len(self.sent)]
        expected = self.model.settle(process.writer, number, batch)
        if expected is not STALE:
            said = process.send_once(number, batch)
            assert said == expected, f"the answer was {expected}, and is now {said}"
            return
        with pytest.raises(CommandFailed, match="STALE"):
            process.send_once(number, batch)
