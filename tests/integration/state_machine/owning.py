"""Rules: partitions change hands.

Every way in which the other rules take entries leads to `take`; here it lets the product's reader
of ordered subscriptions do one round of its loop.
"""

from __future__ import annotations

from collections import Counter
from typing import cast

import hypothesis.strategies as st
from hypothesis.stateful import rule
from tests.integration.state_machine.acting import any_of
from tests.integration.state_machine.owned_process import OwnedProcess
from tests.integration.state_machine.process import Process
from tests.integration.state_machine.ticking import Ticking

from streamatiq.broker.sources import Source
from streamatiq.errors import BrokerConnectionError

__all__ = ["Owning"]


class Owning(Ticking):
    """See the module."""

    # -- reading -------------------------------------------------------------------------------

    def _enlist(self, process: Process, group: str) -> None:
        if group not in self.example.layout.owned:
            super()._enlist(process, group)
            return
        owned = cast("OwnedProcess", process)
        if owned.enlisted.get(group) != owned.name:
            name = owned.name
            owned.reader(group)._enlist(name)
            owned.enlisted[group] = name

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
        """See `Taking`."""
        owned = cast("OwnedProcess", process)
        if group in self.example.layout.owned:
            return self.read(owned, group, most=room, cut=int(cut))
        intake = process.intake(group)
        if intake._reader._is_closed():
            self.commit_collected(process)
            return 0
        return super().take(process, group, sources, room=room, cut=cut, alone=alone)

    def read(
        self,
        process: OwnedProcess,
        group: str,
        *,
        most: int,
        cut: int = 0,
        after: int = 0,
        shares: bool = True,
        verifies: bool = False,
        commits: bool = True,
    ) -> int:
        """One round of the reader's loop; returns how many entries were handed out.

        `cut`: of its calls, behind the first `after`, the replies are lost. `commits`: what
        it hands back is settled at once.
        """
        try:
            with self.example.cutting(cut, after=after):
                process.read(group, most=most, shares=shares, verifies=verifies)
        except BrokerConnectionError:
            process.intake(group).lost()
            process.enlisted.pop(group, None)
        else:
            process.enlisted[group] = process.reader(group)._enlisted or ""
        if commits:
            self.commit_collected(process)
        self.verify()
        return self._hand_out(process, group)

    @rule(
        who=any_of,
        which=any_of,
        most=st.integers(1, 8),
        cut=st.sampled_from((0, 0, 0, 1, 2)),
        after=st.integers(0, 6),
        shares=st.booleans(),
        verifies=st.booleans(),
        commits=st.booleans(),
    )
    def reads(
        self,
        who: int,
        which: int,
        most: int,
        cut: int,
        after: int,
        shares: bool,
        verifies: bool,
        commits: bool,
    ) -> None:
        """A reader goes round; what it hands back may be on its way for some time."""
        process = cast("OwnedProcess", self.process(who))
        owned = sorted(self.example.layout.owned)
        self.read(
            process,
            owned[which % len(owned)],
            most=most,
            cut=cut,
            after=after,
            shares=shares,
            verifies=verifies,
            commits=commits,
        )

    @rule(which=any_of, rounds=st.integers(1, 3), most=st.integers(1, 6))
    def rebalance(self, which: int, rounds: int, most: int) -> None:
        """All processes look at who owns what, while their handlers run."""
        if len(self.processes) < 2:
            self.start_process()
        owned = sorted(self.example.layout.owned)
        group = owned[which % len(owned)]
        for _ in range(rounds):
            for process in list(self.processes):
                self.read(cast("OwnedProcess", process), group, most=most)
        if rounds == 3:
            self._is_fair(group)

    def _is_fair(self, group: str) -> None:
        """After all have looked, and looked again, each has its share; where nobody is dead and
        counted, nor was declared dead and does not know."""
        names = {one.name for one in self.processes}
        if self.model.claimants[group] != names or any(map(self.is_lost, names)):
            return
        states = [self.model.sources[one.keys.entries, group] for one in self.sources(group)]
        shares = Counter(state.owner for state in states)
        least = len(states) // len(names)
        assert shares.keys() <= names, f"{group} is owned by {shares}, of {names}"
        assert all(least <= shares[one] <= least + 1 for one in names), f"{group}: {shares}"

    def compare_group(self, process: Process, group: str) -> None:
        """See `Taking`. An owner finds what is lost by itself."""
        if group in self.example.layout.owned:
            self.read(cast("OwnedProcess", process), group, most=4)
            return
        if process.enlisted.get(group) != process.name:
            self._enlist(process, group)
            self.verify()
        process.intake(group).compare(process.name)
        self.commit_collected(process)
