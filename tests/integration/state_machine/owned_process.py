"""A process of the second machine: besides, the product's ordered reader, guards and middleware.

Its handlers are declared with `@on`, and run in two steps: `begin` is what the broker does before
the handler runs, `finish` is the rest. What a handler does is told before (`Process.plan`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq.middleware import Retries
from tests.integration.state_machine.endings import Ending
from tests.integration.state_machine.mirror import MirroredLink, MirroredPool
from tests.integration.state_machine.owned_shapes import Tick, key_of, venue_of
from tests.integration.state_machine.process import RETRY, WINDOW_MS, Process, SteppedIntake
from tests.integration.state_machine.shapes import HOUR_MS, effect

from streamatiq import BatchFailed, Breaker, Event, RedisStreamsBroker, Settings, on
from streamatiq.broker.batch import Batch
from streamatiq.broker.current import current_delivery
from streamatiq.broker.delivery import Delivery
from streamatiq.broker.gatekeeping import Gatekeeper
from streamatiq.broker.guard_follower import GuardFollower
from streamatiq.broker.guard_subjects import claimed_subject, whole_subject
from streamatiq.broker.guards import Guards
from streamatiq.broker.logs import Logs
from streamatiq.broker.ordered_reader import OrderedReader
from streamatiq.broker.reader import Wake
from streamatiq.broker.settlements import Park
from streamatiq.broker.sources import Source
from streamatiq.errors import UncertainOutcome
from streamatiq.workers.circuit_breaker import CircuitBreaker
from streamatiq.workers.idempotency import Idempotency

if TYPE_CHECKING:
    from tests.integration.state_machine.running import Running

__all__ = ["OwnedProcess", "SteppedFollower", "SteppedReader", "members_of"]

#: Failures that open a breaker.
THRESHOLD = 2


class Fatal(Exception):
    """What is not retried."""


class SteppedFollower(GuardFollower):
    """Hears of changes when the machine says so."""

    def _run(self) -> None:
        pass


class SteppedReader(OrderedReader):
    """Never waits; takes as much as it is told."""

    closed_s = 0.0
    #: Entries that a fetch may take.
    most = 100

    def _fetch(self, sources: Any, consumer: str, room: int, **how: Any) -> Any:
        return super()._fetch(sources, consumer, min(room, self.most), **how)

    def _wait(self, fetched: Any, consumer: str) -> Wake:
        self._ownership.look_elsewhere(self._link)
        return Wake.TIMED_OUT


def members_of(delivery: Delivery) -> list[Delivery]:
    """The deliveries of a batch; or the one."""
    return delivery.members if isinstance(delivery, Batch) else [delivery]


class _Broker(RedisStreamsBroker):
    """A broker that has what the process has."""

    own_guards: Guards | None = None

    @property
    def guards(self) -> Guards | None:
        """As of the base class."""
        return self.own_guards


class OwnedProcess(Process):
    """See the module."""

    def __init__(self, machine: Running) -> None:
        example = machine.example
        super().__init__(example.endpoint, example.layout)
        self.machine = machine
        self.pool = MirroredPool(example.endpoint, RETRY, machine=machine)
        keys = example.keys
        self.guards = Guards(keys.guards, example.endpoint, by=lambda: self.name)
        #: What handlers of the present delivery do.
        self.plan: Ending | None = None
        #: What the outside world answers.
        self.happened = False
        #: Of a batch, which of its events fail (BatchFailed); empty: all or none.
        self.guilty: set[int] = set()
        #: Whether a handler was called lately.
        self.called = False
        #: Deliveries whose handlers run.
        self.begun: list[Delivery] = []
        self.broker = _Broker(
            example.endpoint.url,
            namespace=keys.namespace,
            settings=Settings(),
            middleware=[Retries(max_retries=2), CircuitBreaker(), Idempotency()],
        )
        self.broker.own_guards = self.guards
        self.broker.logs = Logs(keys, self.pool, window_ms=WINDOW_MS, clock_ns=lambda: 1)
        self._declare()

    def _declare(self) -> None:
        breaker = Breaker(failure_threshold=THRESHOLD, reset_time_s=3600)
        make = partial(on, Tick, broker=self.broker, start="earliest", throws=Fatal)
        orders = make(
            name="orders",
            ordered=True,
            breaker=breaker,
            idempotency_key=key_of,
            on_uncertain=lambda event: self.happened,
        )
        orders(self._one)
        bars = make(
            name="bars",
            ordered=True,
            batch=3,
            breaker=breaker,
            breaker_key=venue_of,
            idempotency_key=key_of,
        )
        bars(self._many)
        make(name="quotes", conflate=True)(self._one)
        notes = make(name="notes", batch=3, idempotency_key=key_of, on_uncertain="dead_letter")
        notes(self._many)
        layout = self._layout
        gamma = next(one for one in layout.subscriptions if one.name == "gamma")
        on(*gamma.event_classes, name="gamma", broker=self.broker, start="earliest")(self._one)
        dramatiq.actor(
            lambda number: self._do(),
            actor_name="act",
            queue_name="mail",
            throws=Fatal,
            broker=self.broker,
            idempotency_key=lambda number: f"k{number % 3}",
        )

    # -- handlers ------------------------------------------------------------------------------

    def _one(self, event: Event) -> Iterable[Event]:
        self.machine.ran(self, [event])
        return self._do()

    def _many(self, events: list[Event]) -> Iterable[Event]:
        self.machine.ran(self, events)
        errors = {
            one.id: RuntimeError("guilty")
            for place, one in enumerate(events)
            if place in self.guilty
        }
        if errors:
            raise BatchFailed(errors)
        return self._do()

    def _do(self) -> Iterable[Event]:
        assert self.plan is not None
        if self.plan.kind == "fail":
            raise Fatal("it failed for good")
        if self.plan.kind == "undecided":
            raise UncertainOutcome("it may have happened")
        if self.plan.kind in ("retry", "later"):
            raise RuntimeError("it failed")
        return [effect(1_000 + place) for place in range(self.plan.emits)]

    # -- intake --------------------------------------------------------------------------------

    def intake(self, group: str) -> SteppedIntake:
        """As of the base class, with guards; of owned partitions, with its own reader."""
        known = group in self._intakes
        intake = super().intake(group)
        if not known and isinstance(intake._reader, SteppedReader):
            link = MirroredLink(self._endpoint)
            link.machine = self.machine
            intake._link = intake._reader._link = link
        return intake

    def _options(self, group: str) -> dict[str, Any]:
        subscription = next((one for one in self._layout.subscriptions if one.name == group), None)
        return {
            "subscription": subscription,
            "gatekeeper": Gatekeeper(
                self.guards,
                describe=partial(claimed_subject, self.broker),
                whole=lambda: whole_subject(self.broker, group),
            ),
        }

    def hear(self) -> None:
        """Learns what is halted, and which breakers are open."""
        self.guards.reload()
        for intake in self._intakes.values():
            intake.recheck()

    def reader(self, group: str) -> SteppedReader:
        """The reader of a group whose partitions have owners."""
        found = self.intake(group)._reader
        assert isinstance(found, SteppedReader)
        return found

    def believes(self, source: Source) -> bool:
        """Whether it takes itself, under its present name, for the owner of a partition."""
        intake = self._intakes.get(source.group)
        if intake is None or not isinstance(intake._reader, SteppedReader):
            return False
        reader = intake._reader
        return source in reader._ownership.owned and reader._owner == self.name

    def read(self, group: str, *, most: int, shares: bool, verifies: bool) -> None:
        """One round of the reader's loop.

        Raises:
          BrokerConnectionError: A reply was lost.
        """
        intake, reader = self.intake(group), self.reader(group)
        if intake._client_id is None:
            intake._client_id = intake.link.client_id()
            reader.begin()
        reader.most = most
        reader._next_share = 0.0 if shares else math.inf
        reader._next_compare = 0.0 if verifies else math.inf
        reader.read()

    # -- runs ----------------------------------------------------------------------------------

    def begin(self, delivery: Delivery) -> bool:
        """All that the broker does before a handler runs; whether it runs then."""
        self.broker.emit_before("process_message", delivery)
        for one in members_of(delivery):
            if isinstance(one.ending, Park):
                # Only the machine lets time pass.
                one.ending = Park(HOUR_MS, b"")
        if not delivery.turned_away:
            self.begun.append(delivery)
        return not delivery.turned_away

    def finish(self, delivery: Delivery, ending: Ending, guilty: set[int]) -> None:
        """The handler runs; what a worker of Dramatiq does then."""
        self.plan, self.guilty = ending, guilty
        current_delivery.set(delivery)
        error: BaseException | None = None
        try:
            if not delivery.turned_away:
                actor = self.broker.get_actor(delivery.actor_name)
                actor(*delivery.args, **delivery.kwargs)
        except Exception as raised:  # noqa: BLE001 - as the worker
            error = raised
            delivery.stuff_exception(raised)
        self.broker.emit_after("process_message", delivery, exception=error)
        current_delivery.set(None)
        if delivery in self.begun:
            self.begun.remove(delivery)
        for one in [delivery, *members_of(delivery)]:
            if one.retry_delay_ms is not None:
                one.retry_delay_ms = HOUR_MS if ending.kind == "later" else 0
        consumer = self.consumer(delivery)
        if delivery.failed:
            consumer.nack(delivery)
        else:
            consumer.ack(delivery)

    def close(self) -> None:
        """As of the base class."""
        super().close()
        self.guards.stop()
        self.pool.close()
        self.broker.close()
