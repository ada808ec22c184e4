"""Rules: handlers run for some time, in batches or alone; tokens are given; processes stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import hypothesis.strategies as st
from hypothesis.stateful import rule
from tests.integration.state_machine import endings
from tests.integration.state_machine.acting import any_of
from tests.integration.state_machine.order_ledger import Run
from tests.integration.state_machine.owned_process import OwnedProcess, members_of
from tests.integration.state_machine.owning import Owning
from tests.integration.state_machine.process import Process
from tests.integration.state_machine.ticking import ORDERED

from streamatiq import Event
from streamatiq.broker.delivery import Delivery
from streamatiq.broker.reservations import next_token
from streamatiq.broker.settlements import Settlement

__all__ = ["Running"]

#: Ends of handlers that raise.
FAILING = ("retry", "later", "fail", "undecided")
guilty = st.sets(st.integers(0, 2), max_size=2)


class Running(Owning):
    """See the module."""

    # -- running -------------------------------------------------------------------------------

    @rule(who=any_of, which=any_of, several=st.integers(1, 3))
    def begin_handler(self, who: int, which: int, several: int) -> None:
        """Handlers begin, and run for some steps."""
        process = cast("OwnedProcess", self.busy(who, which))
        for _ in range(several):
            waiting = [one for one in process.held if one not in process.begun]
            if not waiting:
                return
            delivery = waiting[which % len(waiting)]
            if not self.start(process, delivery):
                # As the worker: it is not called, and comes to its end at once.
                process.held.remove(delivery)
                process.finish(delivery, endings.DONE, set())
                self.commit_collected(process)
                self.verify()

    def start(self, process: OwnedProcess, delivery: Delivery) -> bool:
        """The broker's part before a handler runs; whether it runs."""
        self.before_run(process, delivery)
        try:
            began = process.begin(delivery)
        finally:
            self.verify()
        if began:
            self._holds(delivery)
            by_key = delivery.source.group in ORDERED
            self.order.begin(self._runs(delivery), by_key=by_key)
            self.begins(process, delivery)
        return began

    def _holds(self, delivery: Delivery) -> None:
        """What runs in a process that is not fenced is that process's."""
        for one in members_of(delivery):
            state = self.model.sources[one.source.keys.entries, one.source.group]
            entry = state.held(one.entry_id)
            owner = "" if entry is None else state.pending[entry].owner
            if not one.turned_away and not self.is_lost(one.consumer):
                assert owner == one.consumer, f"{one.consumer} runs {one}, which {owner!r} has"

    def before_run(self, process: OwnedProcess, delivery: Delivery) -> None:
        """A handler may be about to run."""

    def begins(self, process: OwnedProcess, delivery: Delivery) -> None:
        """A handler runs from now on."""

    def ran(self, process: OwnedProcess, events: Sequence[Event]) -> None:
        """A handler was called."""
        process.called = True

    def _runs(self, delivery: Delivery) -> list[Run]:
        runs = []
        for one in members_of(delivery):
            if one.turned_away:
                continue
            event = one.event
            key = "" if event is None else event.key
            reserved = "" if one.reserved is None or one.instead else one.reserved.key
            keys = one.source.keys
            at = (keys.keys if event is None else keys.entries, one.source.group)
            runs.append(Run(at, key, reserved, one.consumer, one.entry_id, delivery))
        return runs

    def _ended(
        self, process: Process, first: int, chosen: list[endings.Ending]
    ) -> list[Settlement]:
        owned = cast("OwnedProcess", process)
        if not process.held:
            return process.collected.take()
        first %= len(process.held)
        done = process.held[first : first + len(chosen)]
        for delivery, ending in zip(done, chosen, strict=False):
            process.held.remove(delivery)
            running = delivery in owned.begun
            if ending.kind == "back" and not running:
                process.consumer(delivery).requeue([delivery])
                continue
            if not running:
                self.start(owned, delivery)
            owned.happened = ending.other
            owned.called = False
            owned.finish(delivery, ending, self.chosen_guilty)
            if owned.called:
                self._ended_as_it_said(delivery, ending)
            self.ends(owned, delivery)
            self.order.end(delivery)
        return process.collected.take()

    def _ended_as_it_said(self, delivery: Delivery, ending: endings.Ending) -> None:
        """What a handler has done is done, what has failed is not."""
        ran = [one for one in members_of(delivery) if not one.turned_away]
        told = self.chosen_guilty & set(range(len(ran))) if delivery is not ran[0] else set()
        for place, one in enumerate(ran):
            failed = place in told or (not told and ending.kind in FAILING)
            assert (one.outcome == "done") != failed, f"{one}: {ending}, and it is {one.outcome}"

    @rule(who=any_of, which=any_of, places=guilty)
    def end_in_part(self, who: int, which: int, places: set[int]) -> None:
        """A handler of batches says which of its events have failed."""
        process = self.busy(who, which)
        self.chosen_guilty = places
        try:
            batch = self._ended(process, which, [endings.EMITS])
        finally:
            self.chosen_guilty = set()
        self.commit(process, batch)

    def ends(self, process: OwnedProcess, delivery: Delivery) -> None:
        """A handler has ended."""

    @rule(who=any_of, which=any_of, cut=st.sampled_from((0, 0, 1)))
    def ask_for_token(self, who: int, which: int, cut: int) -> None:
        """A handler asks for a fencing token, which is higher than all before."""
        process = cast("OwnedProcess", self.busy(who, which))
        if not process.held:
            return
        one = members_of(process.held[which % len(process.held)])[0]
        call = next_token(
            one.source.keys,
            group=one.source.group,
            consumer=one.consumer,
            entry_id=one.entry_id,
        )
        at = (one.source.keys.token, one.source.group)
        with self.example.cutting(cut):
            token = process.pool.call(lambda link: link.run(call))
        if isinstance(token, int):
            assert token > self.tokens.get(at, 0), f"token {token} after {self.tokens[at]}"
            self.tokens[at] = token

    # -- settling ------------------------------------------------------------------------------

    def commit(self, process: Process, batch: Sequence[Settlement]) -> None:
        """See `Acting`; and who owns the partition now is woken."""
        # Who is fenced for one stream of the batch settles nothing of it.
        fences = self.model.fences
        dead = {one.consumer for one in batch if one.source.keys.fence(one.consumer) in fences}
        woken = {
            one.source.keys.wake: self._newest(one.source.keys.wake)
            for one in batch
            if one.source.ordered and self.owner(one.source) not in ("", one.consumer)
            if one.consumer not in dead
        }
        super().commit(process, batch)
        for wake, before in woken.items():
            assert self._newest(wake) != before, f"{wake}: the new owner is not woken"

    def _newest(self, stream: str) -> Any:
        return self.example.admin.xrevrange(stream, count=1)

    # -- leaving -------------------------------------------------------------------------------

    @rule(who=any_of)
    def leave(self, who: int) -> None:
        """A process stops: it hands back what is not begun, lets run what runs, and signs off."""
        process = cast("OwnedProcess", self.process(who))
        for group, intake in process._intakes.items():
            process._to_committer(intake.stop())
            waiting = [
                one
                for one in process.held
                if one.source.group == group and one not in process.begun
            ]
            process.consumer(waiting[0]).requeue(waiting) if waiting else None
            process.held = [one for one in process.held if one not in waiting]
        self.commit_collected(process)
        self.verify()
        while process.held:
            self.commit(process, self._ended(process, 0, [endings.DONE]))
            self.verify()
            # A batch that failed, or what was turned away, is in the buffer again.
            for intake in process._intakes.values():
                process._to_committer(intake._buffer.drain())
            self.commit_collected(process)
            self.verify()
        for group in process._intakes:
            if group in self.example.layout.owned:
                process.reader(group).leave()
        self.verify()
        name = process.name
        self._die(process)
        self.graves.remove(name)
        self.bury(process, name, fence=False)

    def _die(self, process: Process) -> None:
        super()._die(process)
        for delivery in process.held:
            self.order.end(delivery)
