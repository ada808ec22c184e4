"""What the rules share: calls whose reply may be lost, and the model that follows them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from tests.integration.state_machine.ledger import Ledger, unit_of
from tests.integration.state_machine.model import SourceState
from tests.integration.state_machine.process import Process
from tests.integration.state_machine.reference import Reference
from tests.integration.state_machine.shapes import HOUR_MS, QUEUES
from tests.integration.state_machine.snapshot import Snapshot
from tests.integration.state_machine.world import World

from streamatiq.broker.settlements import BatchOutcome, Park, Settlement
from streamatiq.broker.sources import Source
from streamatiq.errors import BrokerConnectionError

__all__ = ["QUEUES", "Acting", "Steps", "any_of", "cuts", "kept"]

T = TypeVar("T")
MAX_PROCESSES = 3
#: A number that is taken modulo what there is.
any_of = st.integers(0, 11)
#: How many replies in a row are lost, and how many bytes of them arrive.
cuts = st.sampled_from((0, 0, 1, 1, 2, 3))
kept = st.sampled_from((0, 1))
#: The effects of several script calls on the model, one after another.
Steps = Iterator[object]


def refused(batch: Sequence[Settlement], said: BatchOutcome) -> list[Settlement]:
    """What the committer makes of what could not be settled: it is put aside."""
    texts = {(one.source, one.entry_id): one.text for one in said.problems}
    return [
        replace(one, action=Park(HOUR_MS, b""), emits=(), messages=())
        for one in batch
        if texts.get((one.source, one.entry_id), "").startswith("WRONGTYPE")
    ]


class Acting(RuleBasedStateMachine):
    """A machine with a world, a model and a ledger, and no rules yet."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.example = self.world.begin()
        self.model = Reference(self.example.layout, self.example.log_keys)
        self.ledger = Ledger()
        self.processes: list[Process] = []
        #: Names of processes that are dead and listed.
        self.graves: list[str] = []
        #: Dead processes, for what they have sent before.
        self.ghosts: list[Process] = []
        #: Batches that were sent: who, number, batch.
        self.sent: list[tuple[Process, int, list[Settlement]]] = []
        #: (stream, entry id) -> what it is about.
        self.units: dict[tuple[str, bytes], str] = {}
        self.numbers = 100  # of messages
        self.restarts = 0
        #: Lanes that were made to look passed over for long.
        self.aged: set[str] = set()
        self.groups = self.example.layout.groups
        self.start_process()
        self.verify()

    # -- choosing ------------------------------------------------------------------------------

    def process(self, which: int) -> Process:
        return self.processes[which % len(self.processes)]

    def holder(self, which: int) -> Process:
        """A process that holds something, if there is one."""
        holders = [one for one in self.processes if one.held] or self.processes
        return holders[which % len(holders)]

    def group(self, which: int, wanted: Callable[[SourceState], object] | None = None) -> str:
        """A group; one of those that have what is wanted, if there is one."""
        groups = [
            group
            for group in self.groups
            if wanted is not None
            and any(
                wanted(self.model.sources[one.keys.entries, group]) for one in self.sources(group)
            )
        ]
        groups = groups or self.groups
        return groups[which % len(groups)]

    def sources(self, group: str) -> list[Source]:
        return self.example.layout.sources[group]

    def queue(self, group: str) -> str | None:
        return group if group in self.example.layout.work else None

    @rule()
    def start_process(self) -> None:
        if len(self.processes) < MAX_PROCESSES:
            self.processes.append(self.new_process())

    def new_process(self) -> Process:
        """One more."""
        return Process(self.example.endpoint, self.example.layout)

    # -- looking -------------------------------------------------------------------------------

    def verify(self) -> None:
        """The server holds what the model says."""
        seen = self.example.observe()
        wrong = self.model.differences(seen)
        assert not wrong, "\n".join(wrong)
        self._learn(seen)

    def _learn(self, seen: Snapshot) -> None:
        self.model.bind(seen)
        for key, entries in seen.streams.items():
            for entry_id, data in entries:
                if (key, entry_id) not in self.units:
                    self.units[key, entry_id] = unit_of(data)

    def agrees(self) -> bool:
        return not self.model.differences(self.example.observe())

    # -- doing ---------------------------------------------------------------------------------

    def attempt(self, call: Callable[[], T], effect: Callable[[Reference], object]) -> T | None:
        """Calls, and applies `effect` to the model. After a lost connection (None) the server
        decides whether it has happened."""
        try:
            done = call()
        except BrokerConnectionError:
            before, self.model = self.model, copy.deepcopy(self.model)
            effect(self.model)
            if not self.agrees():
                self.model = before
            return None
        effect(self.model)
        return done

    def attempt_or_raise(self, call: Callable[[], T], effect: Callable[[Reference], object]) -> T:
        """As `attempt`.

        Raises:
          BrokerConnectionError: The connection was lost.
        """
        try:
            done = call()
        except BrokerConnectionError:
            before, self.model = self.model, copy.deepcopy(self.model)
            effect(self.model)
            if not self.agrees():
                self.model = before
            raise
        effect(self.model)
        return done

    def attempt_steps(self, call: Callable[[], T], steps: Steps) -> T | None:
        """Calls what runs several scripts; after a lost connection (None) the server decides how
        many of them have happened."""
        try:
            done = call()
        except BrokerConnectionError:
            while not self.agrees():
                assert next(steps, self) is not self, (
                    "no number of script calls explains the server"
                )
            return None
        for _ in steps:
            pass
        return done

    def commit(self, process: Process, batch: Sequence[Settlement]) -> None:
        """A batch through the committer, which repeats it until it is answered."""
        if not batch:
            return
        number = process.batches
        for said in process.commit(batch):
            number += 1
            self.sent.append((process, number, list(batch)))
            self.settled(batch, said, self.model.settle(process.writer, number, batch))
            batch = refused(batch, said)
        assert not batch, f"refused, and not put aside: {batch}"

    def settled(self, batch: Sequence[Settlement], said: BatchOutcome, expected: object) -> None:
        """The answer to a batch is the one that the model gives."""
        assert said == expected, f"answer: is {said}, should be {expected}"
        self.ledger.settled(self.units, batch, said)

    def commit_collected(self, process: Process) -> None:
        """What consumer and intake have handed to the committer."""
        self.commit(process, process.collected.take())
