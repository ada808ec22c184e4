"""What the apps with a plain Dramatiq actor share: only their brokers differ."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import dramatiq

from ..ticks import Tick, number_of
from .base import BULK_CALL, DELAYS, QUEUE, RECOVERS, THREADS, Producer, Target, handling

__all__ = ["ActorProducer", "declare"]

#: Counts messages of the queue that wait for their time.
CountDelayed = Callable[[], int]

#: Seconds between two looks at what is left.
_POLL_S = 0.05


class ActorProducer:
    """`actor.send`; `broker.enqueue_many` where there is one (Dramatiq's own brokers have none).

    `broker.join` waits for the end.
    """

    def __init__(
        self,
        broker: dramatiq.Broker,
        actor: dramatiq.Actor[[Tick], None],
        count_delayed: CountDelayed,
    ) -> None:
        self.broker = broker
        self.actor = actor
        self._count_delayed = count_delayed
        #: Not in Dramatiq's interface, hence without a type.
        self._enqueue_many: Any = getattr(broker, "enqueue_many", None)
        bulk = {BULK_CALL} if self._enqueue_many else set()
        self.abilities = frozenset({DELAYS, THREADS, RECOVERS} | bulk)

    def prepare(self) -> None:
        self.broker.declare_queue(QUEUE)

    def send(self, tick: Tick) -> None:
        self.actor.send(tick)

    def send_many(self, ticks: Sequence[Tick]) -> None:
        if self._enqueue_many:
            self._enqueue_many([self.actor.message(tick) for tick in ticks])
        else:
            for tick in ticks:
                self.actor.send(tick)

    def send_delayed(self, ticks: Sequence[Tick], delay_ms: int) -> None:
        if self._enqueue_many and len(ticks) > 1:
            self._enqueue_many([self.actor.message(tick) for tick in ticks], delay=delay_ms)
        else:
            for tick in ticks:
                self.actor.send_with_options(args=(tick,), delay=delay_ms)

    def wait_settled(self, timeout_s: float, delayed: int = 0) -> bool:
        deadline = time.monotonic() + timeout_s
        if not delayed:
            try:
                self.broker.join(QUEUE, timeout=int(timeout_s * 1000))
            except dramatiq.errors.QueueJoinTimeout:
                return False
            return True
        while self._count_delayed() != delayed:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True


def declare(broker: dramatiq.Broker, target: Target, count_delayed: CountDelayed) -> Producer:
    """Make `broker` the global one and give it an actor that notes its message (and sleeps).

    Args:
        broker, target: what to declare it on, and for.
        count_delayed: counts the messages of `QUEUE` that wait for their time.
    """
    handle = handling(target)
    dramatiq.set_broker(broker)

    @dramatiq.actor(queue_name=QUEUE, broker=broker)
    def tick(payload: Tick) -> None:
        handle(number_of(payload))

    for number in range(1, target.queues):

        @dramatiq.actor(queue_name=f"idle{number}", actor_name=f"idle{number}", broker=broker)
        def idle() -> None:
            raise AssertionError("nothing is sent to this actor")

    return ActorProducer(broker, tick, count_delayed)
