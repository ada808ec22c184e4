"""One worker process of the state machine: the product's own objects, driven step by step.

Everything that decides is real: intake (but for its loop and its thread), consumer, deliveries,
committer, reclaimer, identity, list of held entries. What is missing is the scheduling of threads,
so that an example runs the same each time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from tests.integration.state_machine.shapes import Layout

from streamatiq.broker import scripts
from streamatiq.broker.committer import Committer
from streamatiq.broker.connections import Endpoint, Link, LinkPool, RetryPolicy
from streamatiq.broker.consumer import StreamConsumer, end_unrun, hand_back
from streamatiq.broker.delivery import Delivery
from streamatiq.broker.identity import Identity
from streamatiq.broker.in_flight import InFlight
from streamatiq.broker.intake import Intake
from streamatiq.broker.members import ReadSource, encode_reads, reads_of
from streamatiq.broker.reader import Wake
from streamatiq.broker.reclaimer import Reclaimer
from streamatiq.broker.scripts import Fetched
from streamatiq.broker.settlements import BatchOutcome, Settlement, settle
from streamatiq.broker.sources import Source
from streamatiq.broker.unblocking import Unblocker
from streamatiq.errors import BrokerConnectionError

__all__ = ["MAX_DELIVERIES", "WINDOW_MS", "Process", "SteppedIntake"]

#: Low, so that an example gets there.
MAX_DELIVERIES = 3
WINDOW_MS = 300_000
RETRY = RetryPolicy(2, 0.001)


class SteppedIntake(Intake):
    """An intake without a thread: the machine calls its steps."""

    def _begin(self) -> None:
        pass

    @property
    def link(self) -> Link:
        return self._link

    def keep(self, sources: Sequence[Source], fetched: Fetched, consumer: str) -> int:
        return self._reader._keep(sources, fetched, consumer)

    def compare(self, consumer: str) -> None:
        # Twice: what is missing once may be on its way.
        self._reader._compare(consumer)
        self._reader._compare(consumer)

    def block(self, consumer: str) -> Wake:
        return self._reader._block(1, consumer, None)

    def lost(self) -> None:
        self._reopen()


class RecordingCommitter(Committer):
    """A committer that remembers what the server answered."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.outcomes: list[BatchOutcome] = []
        super().__init__(*args, **options)

    def _look_at(self, batch: list[Settlement], outcome: BatchOutcome) -> list[Settlement]:
        self.outcomes.append(outcome)
        return super()._look_at(batch, outcome)


class NumberedIdentity(Identity):
    """A process whose names are the same each time an example runs."""

    numbers: Iterator[int] = itertools.count()

    @staticmethod
    def _new() -> str:
        return f"p{next(NumberedIdentity.numbers)}"


class _Collected:
    """Stands before the committer: keeps settlements until the machine sends them in one batch."""

    def __init__(self) -> None:
        self.settlements: list[Settlement] = []

    def submit(self, settlement: Settlement) -> None:
        self.settlements.append(settlement)

    def submit_at_once(self, settlements: Sequence[Settlement]) -> None:
        self.settlements += settlements

    def take(self) -> list[Settlement]:
        taken, self.settlements = self.settlements, []
        return taken


class Process:
    """A consuming process."""

    def __init__(self, endpoint: Endpoint, layout: Layout) -> None:
        self._endpoint = endpoint
        self._layout = layout
        self.identity = NumberedIdentity()
        self.in_flight = InFlight()
        self.collected = _Collected()
        collected: Any = self.collected
        self._to_committer: Callable[[Any], None] = lambda one: hand_back(collected, None, one)
        self.link = Link(endpoint)
        self.links = LinkPool(endpoint, RETRY)
        self.reclaimer = Reclaimer(
            layout.keys.members, self.identity, self._reads, max_deliveries=MAX_DELIVERIES
        )
        self._committer: RecordingCommitter | None = None
        self._intakes: dict[str, SteppedIntake] = {}
        self._consumers: dict[str, StreamConsumer] = {}
        self._collected_any = collected
        #: What it has taken and not settled.
        self.held: list[Delivery] = []
        #: Group -> name under which it was enlisted.
        self.enlisted: dict[str, str] = {}
        #: Number of the committer's last batch.
        self.batches = 0

    @property
    def name(self) -> str:
        return self.identity.consumer

    @property
    def committer(self) -> RecordingCommitter:
        if self._committer is None:
            self._committer = RecordingCommitter(
                self._endpoint,
                retry=RETRY,
                window_ms=WINDOW_MS,
                on_fenced=self.identity.fenced,
                in_flight=self.in_flight,
            )
        return self._committer

    def _reads(self) -> list[ReadSource]:
        return [read for one in self._intakes.values() for read in reads_of(one.sources)]

    def intake(self, group: str) -> SteppedIntake:
        if group not in self._intakes:
            collected = self._collected_any
            self._intakes[group] = SteppedIntake(
                group,
                self._layout.sources[group],
                start="0",
                delayed=self._layout.delayed(group),
                rotate=group in self._layout.rotating,
                endpoint=self._endpoint,
                retry=RETRY,
                unblocker=Unblocker(self._endpoint),
                members=self._layout.keys.members,
                identity=self.identity,
                in_flight=self.in_flight,
                hand_back=self._to_committer,
                end=lambda claimed, how: end_unrun(collected, claimed, how),
                threads=8,
                batch_size=100,
                window_ms=WINDOW_MS,
                clock_ns=lambda: 1,
                **self._options(group),
            )
            self._consumers[group] = StreamConsumer(
                self._intakes[group],
                collected,
                prefetch=10_000,
                timeout_ms=0,
                subscription=self._options(group).get("subscription"),
                links=self.links,
            )
        return self._intakes[group]

    def _options(self, group: str) -> dict[str, Any]:
        """More that its intake is to know."""
        return {}

    def enlist(self, group: str) -> None:
        """Says what it reads; as the intake does before its first read and under a new name."""
        intake = self.intake(group)
        reads = encode_reads(intake.sources)
        self.link.run(scripts.enlist(self._layout.keys.members, self.name, group, reads))
        self.enlisted[group] = self.name

    def take(self, group: str) -> list[Delivery]:
        """Hands out what the intake has kept, as Dramatiq's consumer thread does."""
        taken: list[Delivery] = []
        buffered = self.intake(group)._buffer.view().buffered
        for _ in range(buffered + 1):  # once more than there should be
            delivery = next(self._consumers[group])
            if delivery is not None:  # else it was undecodable, and is settled
                taken.append(delivery)
        self.held += taken
        return taken

    def consumer(self, delivery: Delivery) -> StreamConsumer:
        return self._consumers[delivery.source.group]

    def commit(self, batch: Sequence[Settlement]) -> list[BatchOutcome]:
        """Settles a batch with the committer, which repeats it until it is answered; returns the
        answers to it, and to the second batch that it makes of what was refused."""
        self.committer.submit_at_once([replace(one) for one in batch])
        assert self.committer.flush(20.0), "the committer does not come to an end"
        outcomes, self.committer.outcomes = self.committer.outcomes, []
        self.batches += len(outcomes)
        return outcomes

    def send_once(self, number: int, batch: Sequence[Settlement]) -> BatchOutcome | None:
        """Sends a batch as the committer does, but once; None if the reply is lost."""
        call = settle(self.writer, number, WINDOW_MS, batch)
        # The script is there: what is cut is its own reply, and not that it is missing.
        self.link.send("SCRIPT", "LOAD", call.script.text)
        try:
            return self.link.run(call)
        except BrokerConnectionError:
            self.link.close()
            return None

    @property
    def writer(self) -> str:
        return self.committer.name

    def close(self) -> None:
        """Ends its thread and connections. Idempotent."""
        if self._committer is not None:
            self._committer.close(5.0)
        for one in self._intakes.values():
            one.link.close()
        self.link.close()
        self.links.close()
