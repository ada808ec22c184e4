"""Streamatiq as it is meant: market data published to a log, handled by an `@on` subscription."""

from __future__ import annotations

from streamatiq import FillEvent, MarketDataEvent, OrderEvent, on

from .base import QUEUE, Producer, Target, handling
from .events import EventProducer, number_of, open_broker

__all__ = ["connect"]

_target = Target.from_env()
_handle = handling(_target)
_broker = open_broker(_target)


def connect() -> Producer:
    """Return the producer of this process."""
    return EventProducer(_broker)


# The events are there before the first worker has booted.
@on(MarketDataEvent, name=QUEUE, start="earliest", broker=_broker)
def handle(event: MarketDataEvent) -> None:
    """Note the event (and sleep, where that is asked for), and nothing else."""
    _handle(number_of(event))


def _idle(event: OrderEvent | FillEvent) -> None:
    raise AssertionError("no such event is published")


if _target.queues > 1:
    on(OrderEvent, name="idle.orders", broker=_broker)(_idle)
if _target.queues > 2:
    on(FillEvent, name="idle.fills", broker=_broker)(_idle)
