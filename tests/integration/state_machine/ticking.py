"""What the second machine is about: who is who, what is published, and what is looked at always."""

from __future__ import annotations

from typing import Any, cast

import hypothesis.strategies as st
from hypothesis.stateful import initialize, invariant, rule
from tests.integration.state_machine.acting import any_of, cuts, kept
from tests.integration.state_machine.order_ledger import OrderLedger
from tests.integration.state_machine.owned_process import OwnedProcess
from tests.integration.state_machine.owned_shapes import mail, tick
from tests.integration.state_machine.process import Process
from tests.integration.state_machine.surroundings import Surroundings

from streamatiq.broker.sources import Source

__all__ = ["Ticking"]

ORDERED = ("orders", "bars")
CONFLATED = ("quotes",)
#: Events of few keys, so that some wait for others.
numbers = st.integers(0, 47)


class Ticking(Surroundings):
    """See the module."""

    def __init__(self) -> None:
        self.order = OrderLedger(ordered=ORDERED, conflated=CONFLATED, is_fenced=self.is_lost)
        #: Of a batch that ends, the places of events that fail.
        self.chosen_guilty: set[int] = set()
        #: The last token of each stream and group.
        self.tokens: dict[tuple[str, str], int] = {}
        #: Answers to script calls that were not what they should be.
        self.wrong: list[str] = []
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
        assert not self.wrong, "\n".join(self.wrong)
        super().verify()
        self.order.look(self.model)

    @invariant()
    def one_owner_at_a_time(self) -> None:
        """Of those that are not fenced, one at most believes that a partition is its own, and the
        server says so, too."""
        for group in self.example.layout.owned:
            for source in self.sources(group):
                owner = self.owner(source)
                for process in self.processes:
                    assert isinstance(process, OwnedProcess)
                    if process.believes(source) and not self.is_lost(process.name):
                        assert owner == process.name, (
                            f"{process.name} believes to own {source.name}, which {owner} owns"
                        )

    def kept_order(self) -> None:
        """See `Surroundings`."""
        self.order.check(self.model)

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

    def owner(self, source: Source) -> str:
        """Who owns a partition, as the model says."""
        return self.model.sources[source.keys.entries, source.group].owner
