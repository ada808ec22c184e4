"""What a run is given: who it is, and the ways in which it may write."""

from __future__ import annotations

import threading
from datetime import datetime
from uuid import UUID, uuid5

import dramatiq

from ..broker import RedisStreamsBroker
from ..broker import scripts as broker_scripts
from ..broker.backpressure import Backpressure
from ..broker.connections import Link
from ..broker.dead_letter_admin import DeadLetters
from ..broker.logs import Logs
from ..broker.members import reads_of
from ..broker.work_queues import WorkQueue
from ..errors import BacklogFull
from ..events import Event
from . import scripts
from .fencing import FencedLinks
from .scripts import RunEnd
from .timing import from_ms

__all__ = ["RunContext", "run_id"]

#: Names ids of runs apart from all other ids that are made of names.
_RUNS = UUID("6f6f1d8e-6a0e-5d5b-9b57-0f7c1f0a3c11")


def run_id(schedule: str, fired_ms: int, *, asked: bool = False) -> UUID:
    """The id of a run, and of what it publishes: the same for the same schedule and fire time.

    Parameters:
      fired_ms: The fire time, ms since 1970 UTC; of a run that was asked for, when it was.
      asked: It was asked for.
    """
    return uuid5(_RUNS, f"{schedule}:{'asked:' if asked else ''}{fired_ms}")


class RunContext:
    """One run. For the thread that does it.

    Attributes:
      schedule: Name of the schedule.
      number: Of the run, counted by schedule.
      fired_ms: The fire time, ms since 1970 UTC; of a run that was asked for, when it was.
      asked: It was asked for.
      attempt: From 1; more where the leader before has left it.
      id: Derived from schedule and fire time.
      broker: Actors, settings, keys; for reading. Not for writing: it does not ask who leads.
      links: Connections on which scripts run only while this process leads.
      stopping: Set when the process wants to stop: a run that takes long should end or fail soon.
    """

    def __init__(
        self,
        broker: RedisStreamsBroker,
        links: FencedLinks,
        run: RunEnd,
        *,
        fired_ms: int,
        asked: bool,
        attempt: int,
        stopping: threading.Event,
    ) -> None:
        self._run = run
        self.broker = broker
        self.links = links
        self.schedule = run.name
        self.number = run.number
        self.fired_ms = fired_ms
        self.asked = asked
        self.attempt = attempt
        self.stopping = stopping
        self.id = run_id(run.name, fired_ms, asked=asked)
        #: Whether the end of the run is recorded.
        self.ended = False
        bus = broker.settings.event_bus
        self._window_ms = int(bus.idempotency_window * 1000)
        self._pressure = Backpressure(bus.max_queue_size, shed=frozenset(bus.shed))
        #: Publishes and reads; writes while this process leads.
        self.logs = Logs(broker.keys, links, window_ms=self._window_ms, pressure=self._pressure)

    @property
    def fired(self) -> datetime:
        """The fire time, in UTC."""
        return from_ms(self.fired_ms)

    def check_leadership(self) -> None:
        """Whether this process still leads, asked of the server; for a run between two steps.

        Raises:
          LeadershipLost: It does not.
        """
        self.links.call(lambda link: link.run(scripts.leads(self.broker.keys.scheduler)))

    def server_time(self) -> datetime:
        """The server's clock, UTC."""
        seconds, micros = self.links.call(lambda link: link.send("TIME"))
        return from_ms(int(seconds) * 1000 + int(micros) // 1000)

    def dead_letters(self) -> DeadLetters:
        """Manages dead letters while this process leads."""
        broker = self.broker
        return DeadLetters(self.links, broker.keys, lambda name: reads_of(broker._sources(name)))

    def end_with_event(self, event: Event) -> str:
        """Publishes an event and ends the run, in one step: it happens exactly once.

        Returns:
          What there is to say about it.

        Raises:
          BacklogFull: There is no room; nothing is published, and the run goes on.
          LeadershipLost: This process does not lead any more.
          BrokerError: The server refused.
        """
        self.logs.check_layout(type(event))
        keys, event_id, data = self.logs.prepared(event)
        alone = broker_scripts.publish(
            keys,
            self._window_ms,
            ((event_id, data),),
            limit=self._pressure.limit,
            shed=event.event_type in self._pressure.shed,
        )
        said = f"published {event.event_type} {event.id}"
        call = scripts.publish(self.broker.keys.scheduler, self._run._replace(detail=said), alone)
        appended = self.links.call(lambda link: link.run(call))
        if appended is not None and appended.full is not None:
            subscription, backlog = appended.full
            raise BacklogFull(
                f"Subscription {subscription!r} has {backlog:,} events of {event.event_type!r} to "
                f"handle, and event_bus.max_queue_size is {self._pressure.limit:,}. Not published. "
                "Start more workers.",
                log=event.event_type,
                subscription=subscription,
                backlog=backlog,
                limit=self._pressure.limit,
                left=(event,),
            )
        self.ended = True
        return said

    def end_with_message(self, message: dramatiq.Message[object], delay_ms: int | None) -> str:
        """Enqueues a message and ends the run, in one step: it happens exactly once.

        Returns, raises: as `end_with_event`.
        """
        broker = self.broker
        broker.emit_before("enqueue", message, delay_ms)
        queue = WorkQueue(broker.keys, message.queue_name)
        wire = queue.to_enqueue(message, delay_ms)
        slot = self.id.hex  # its key is gone when the script is
        alone = broker_scripts.enqueue(
            [target.entries for target in queue.targets.values()],
            queue.delayed,
            queue.keys.wake,
            queue.keys.producer(slot),
            1,
            [(wire.target.number, *wire[1:])],
            limit=self._pressure.limit,
        )
        said = f"sent {message.actor_name} {message.message_id} to {message.queue_name}"
        call = scripts.enqueue(broker.keys.scheduler, self._run._replace(detail=said), alone)

        def send(link: Link) -> broker_scripts.Added:
            return link.run(call)

        added = self.links.call(send)
        if added.accepted == 0:
            raise BacklogFull(
                f"Work queue {queue.name!r} is full: {added.backlog:,} messages are ready or "
                f"running, and event_bus.max_queue_size is {self._pressure.limit:,}. Not sent. "
                "Start more workers.",
                queue=queue.name,
                backlog=added.backlog,
                limit=self._pressure.limit,
                left=(message,),
            )
        self.ended = True
        broker.emit_after("enqueue", message, delay_ms)
        return said
