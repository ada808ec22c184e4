"""As `streamatiq_guarded`, without a business key: the done marks of events are always on."""

from __future__ import annotations

from streamatiq import LatencyMetrics, MarketDataEvent, on

from .base import QUEUE, Producer, Target, handling
from .events import EventProducer, number_of, open_broker

__all__ = ["connect"]

_target = Target.from_env()
_handle = handling(_target)
_broker = open_broker(_target)
_broker.add_middleware(LatencyMetrics())


def connect() -> Producer:
    """Return the producer of this process."""
    return EventProducer(_broker)


@on(MarketDataEvent, name=QUEUE, start="earliest", broker=_broker, breaker=True)
def handle(event: MarketDataEvent) -> None:
    """Note the event, and nothing else."""
    _handle(number_of(event))
