"""What the apps with a plain Dramatiq actor share: only their brokers differ."""

from __future__ import annotations

from collections.abc import Sequence

import dramatiq

from ..ticks import Tick, number_of
from .base import QUEUE, Producer, Target, recorder

__all__ = ["ActorProducer", "declare"]


class ActorProducer:
    """`actor.send`, and `join` to wait for the end. Dramatiq has no bulk call."""

    has_bulk = False

    def __init__(self, broker: dramatiq.Broker, actor: dramatiq.Actor[[Tick], None]) -> None:
        self.broker = broker
        self.actor = actor

    def prepare(self) -> None:
        self.broker.declare_queue(QUEUE)

    def send(self, tick: Tick) -> None:
        self.actor.send(tick)

    def send_many(self, ticks: Sequence[Tick]) -> None:
        for tick in ticks:
            self.actor.send(tick)

    def wait_settled(self, timeout_s: float) -> bool:
        try:
            self.broker.join(QUEUE, timeout=int(timeout_s * 1000))
        except dramatiq.errors.QueueJoinTimeout:
            return False
        return True


def declare(broker: dramatiq.Broker, target: Target) -> Producer:
    """Make `broker` the global one and give it an actor that does nothing but note its message."""
    record = recorder(target)
    dramatiq.set_broker(broker)

    @dramatiq.actor(queue_name=QUEUE, broker=broker)
    def tick(payload: Tick) -> None:
        record(number_of(payload))

    return ActorProducer(broker, tick)
