"""Rules: partitions change hands, handlers run for some time, tokens are given.

Every way in which the other rules take entries leads to `take`; here it lets the product's reader
of ordered subscriptions do one round of its loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import hypothesis.strategies as st
from hypothesis.stateful import initialize, invariant, rule
from tests.integration.state_machine import endings
from tests.integration.state_machine.acting import any_of, cuts, kept
from tests.integration.state_machine.order_ledger import OrderLedger, Run
from tests.integration.state_machine.owned_process import OwnedProcess, members_of
from tests.integration.state_machine.owned_shapes import mail, tick
from tests.integration.state_machine.process import Process
from tests.integration.state_machine.surroundings import Surroundings

from streamatiq import Event
from streamatiq.broker.delivery import Delivery
from streamatiq.broker.reservations import next_token
from streamatiq.broker.settlements import Settlement
from streamatiq.broker.sources import Source
from streamatiq.errors import BrokerConnectionError

__all__ = ["Owning"]

ORDERED = ("orders", "bars")
CONFLATED = ("quotes",)
#: Events of few keys, so that some wait for others.
numbers = st.integers(0, 47)
guilty = st.sets(st.integers(0, 2), max_size=2)


class Owning(Surroundings):
    """See the module."""

    def __init__(self) -> None:
        self.order = OrderLedger(ordered=ORDERED, conflated=CONFLATED, is_fenced=self.is_lost)
        #: Of a batch that ends, the places of events that fail.
        self.chosen_guilty: set[int] = set()
        #: The last token of each stream and group.
        self.tokens: dict[tuple[str, str], int] = {}
        super().__init__()

    def new_process(self) -> Process:
        """See `Acting`."""
        process = OwnedProcess(self)
        process.hear()
        return process

    def is_lost(self, consumer: str) -> bool:
        """Whether a name can commit nothing any more, or its process is dead."""
        names = {one.name for one in self.processes}
        return consumer not in names or any(
            key.endswith(f":fence:{consumer}") for key in self.model.fences
        )

    def verify(self) -> None:
        """See `Acting`."""
        super().verify()
        self.order.look(self.model)

    @invariant()
    def one_owner_at_a_time(self) -> None:
        """Of those that are not fenced, one at most believes that a partition is its own, and the
        server says so, too."""
        for group in self.example.layout.owned:
            for source in self.sources(group):
                owner = self._owner(source)
                for process in self.processes:
                    assert isinstance(process, OwnedProcess)
                    if process.believes(source) and not self.is_lost(process.name):
                        assert owner == process.name, (
                            f"{process.name} believes to own {source.name}, which {owner} owns"
                        )

    def kept_order(self) -> None:
        """See `Surroundings`."""
        self.order.check(self.model)
        self.world.settlements += self.order.settlements

    # -- producers -----------------------------------------------------------------------------

    @initialize(many=st.lists(numbers, min_size=4, max_size=12, unique=True))
    def begin(self, many: list[int]) -> None:
        """Something to do."""
        self.publish(sorted(many), 0, 0)
        self.enqueue_mail(2, 1)
        self.verify()

    @rule(many=st.lists(numbers, min_size=1, max_size=8), times=cuts, keep=kept)
    def publish(self, many: list[int], times: int, keep: int) -> None:
        """Events, some of them again."""
        logs = self.example.logs
        made = [tick(number) for number in many]
        batches: dict[str, list[tuple[bytes, bytes]]] = {}
        for keys, event_id, data in map(logs.prepared, made):
            batches.setdefault(keys.entries, []).append((event_id, data))

        def effects() -> Any:
            for entries, pairs in batches.items():
                yield self.model.publish(self.example.log_keys[entries], pairs)

        with self.example.cutting(times, keep_bytes=keep):
            self.attempt_steps(lambda: logs.publish_many(made), effects())
        for event in made:
            if any(event.id.bytes in ids for ids in self.model.ids.values()):
                self.ledger.events[str(event.id)] = event.type

    @rule(count=st.integers(1, 3), lane=st.integers(0, 2))
    def enqueue_mail(self, count: int, lane: int) -> None:
        """Messages, of which some share a business key."""
        work = self.example.layout.work["mail"]
        wires = []
        for _ in range(count):
            self.numbers += 1
            wires.append(work.to_enqueue(cast("Any", mail(self.numbers, lane)), None))
            self.ledger.messages[f"m{self.numbers}"] = "mail"
        work.enqueue(self.example.links, wires)
        self.model.enqueue("mail", wires)

    @rule(which=any_of)
    def add_garbage(self, which: int) -> None:
        """What is no event waits for nobody, and holds nobody up."""
        keys = sorted(self.example.log_keys)
        key = keys[which % len(keys)]
        self.numbers += 1
        text = f"not ours {self.numbers}"
        self.example.admin.xadd(key, {"d": text})
        self.model.append(key, text.encode())
        self.ledger.garbage.add(text)

    @rule(which=any_of, place=any_of, marks=st.booleans())
    def age_window(self, which: int, place: int, marks: bool) -> None:
        """A window passes for done marks, or for business keys."""
        group = ("orders", "bars", "notes", "mail")[which % 4]
        source = self.sources(group)[place % len(self.sources(group))]
        state = self.model.sources[source.keys.entries, group]
        if marks and state.marks.young:
            self.example.admin.pexpire(source.keys.done, 200_000)
            state.marks.aged = True
        elif not marks and state.keys.young:
            self.example.admin.pexpire(source.keys.keys, 200_000)
            state.keys.aged = True
            self.order.forget_keys()

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
            by_key = delivery.source.group in self.example.layout.owned
            self.order.begin(self._runs(delivery), by_key=by_key)
            self.begins(process, delivery)
        return began

    def before_run(self, process: OwnedProcess, delivery: Delivery) -> None:
        """A handler may be about to run."""

    def begins(self, process: OwnedProcess, delivery: Delivery) -> None:
        """A handler runs from now on."""

    def ran(self, process: OwnedProcess, events: Sequence[Event]) -> None:
        """A handler was called."""

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
            owned.finish(delivery, ending, self.chosen_guilty)
            self.ends(owned, delivery)
            self.order.end(delivery)
        return process.collected.take()

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
        woken = {
            one.source.keys.wake: self._newest(one.source.keys.wake)
            for one in batch
            if one.source.ordered and self._owner(one.source) not in ("", one.consumer)
            if one.source.keys.fence(one.consumer) not in self.model.fences
        }
        super().commit(process, batch)
        for wake, before in woken.items():
            assert self._newest(wake) != before, f"{wake}: the new owner is not woken"

    def _owner(self, source: Source) -> str:
        return self.model.sources[source.keys.entries, source.group].owner

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
