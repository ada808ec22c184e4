"""As `streamatiq_on`, with a handler that takes a hundred events at a time."""

from __future__ import annotations

from streamatiq import MarketDataEvent, on

from .base import QUEUE, Producer, Target, handling
from .events import EventProducer, number_of, open_broker

__all__ = ["connect"]

#: Events that the handler takes at a time, at most: as many as the floor reads at once.
_BATCH = 100

_target = Target.from_env()
_handle = handling(_target)
_broker = open_broker(_target)


def connect() -> Producer:
    """Return the producer of this process."""
    return EventProducer(_broker)


@on(MarketDataEvent, name=QUEUE, start="earliest", broker=_broker, batch=_BATCH)
def handle(events: list[MarketDataEvent]) -> None:
    """Note the events, and nothing else."""
    for event in events:
        _handle(number_of(event))
