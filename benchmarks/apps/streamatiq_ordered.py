"""As `streamatiq_on`, with sixteen keys in four partitions, and the events of a key in order."""

from __future__ import annotations

from streamatiq import MarketDataEvent, Partitioned, on

from .base import QUEUE, Producer, Target, handling
from .events import EventProducer, number_of, open_broker

__all__ = ["connect"]

#: Keys of the events, in turn.
_KEYS = 16


class SpreadTick(MarketDataEvent, type="bench.market_data", version=1, log=Partitioned(4)):
    """Market data in four partitions."""


_target = Target.from_env()
_handle = handling(_target)
_broker = open_broker(_target)


def connect() -> Producer:
    """Return the producer of this process."""
    return EventProducer(_broker, SpreadTick, _KEYS)


@on(SpreadTick, name=QUEUE, start="earliest", broker=_broker, ordered=True)
def handle(event: SpreadTick) -> None:
    """Note the event, and nothing else."""
    _handle(number_of(event))
