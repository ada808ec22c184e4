"""Streamatiq as it is meant: market data published to a log, handled by an `@on` subscription.

The event carries what the tick carries, as Decimals with all checks on. Its source is padded so
that what the log stores is as long as the other systems' tick, envelope included.
"""

from __future__ import annotations

from collections.abc import Sequence

import dramatiq

from streamatiq import (
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    Quote,
    RedisStreamsBroker,
    encode,
    on,
)

from ..ticks import TICK_BYTES, Tick, make_tick
from .base import BULK_CALL, QUEUE, RECOVERS, THREADS, Producer, Target, handling
from .streamatiq_settings import UNLIMITED

__all__ = ["connect"]


class EventProducer:
    """`logs.publish`, and `logs.publish_many` for bulk."""

    abilities = frozenset({BULK_CALL, THREADS, RECOVERS})

    def __init__(self, broker: RedisStreamsBroker) -> None:
        self.broker = broker

    def prepare(self) -> None:
        self.broker.logs.check_layout(MarketDataEvent)

    def send(self, tick: Tick) -> None:
        self.broker.logs.publish(to_event(tick))

    def send_many(self, ticks: Sequence[Tick]) -> None:
        self.broker.logs.publish_many([to_event(tick) for tick in ticks])

    def send_delayed(self, ticks: Sequence[Tick], delay_ms: int) -> None:
        raise NotImplementedError("events are not delayed")

    def wait_settled(self, timeout_s: float, delayed: int = 0) -> bool:
        try:
            self.broker.join(QUEUE, timeout=int(timeout_s * 1000))
        except dramatiq.errors.QueueJoinTimeout:
            return False
        return True


def to_event(tick: Tick) -> MarketDataEvent:
    """Build the event of a tick."""
    return MarketDataEvent(
        ts_event=tick["ts_event"],
        source=_source,
        key=f"{tick['venue']}:{tick['symbol']}",
        data=Quote(
            bid_px=tick["bid"],
            bid_sz=tick["bid_size"],
            ask_px=tick["ask"],
            ask_sz=tick["ask_size"],
            update_id=tick["n"],
        ),
    )


def connect() -> Producer:
    """Return the producer of this process."""
    return _producer


_source = "b"
_stored = encode(to_event(make_tick(0)).stamped(make_tick(0)["ts_event"]))
_source = "b" * max(1, TICK_BYTES - len(_stored) + 1)

_target = Target.from_env()
_handle = handling(_target)
_broker = RedisStreamsBroker(url=_target.url, namespace=_target.namespace, settings=UNLIMITED)
dramatiq.set_broker(_broker)
_producer = EventProducer(_broker)
_base = make_tick(0)["n"]


# The events are there before the first worker has booted.
@on(MarketDataEvent, name=QUEUE, start="earliest", broker=_broker)
def handle(event: MarketDataEvent) -> None:
    """Note the event (and sleep, where that is asked for), and nothing else."""
    assert isinstance(event.data, Quote)
    assert event.data.update_id is not None
    _handle(event.data.update_id - _base)


def _idle(event: OrderEvent | FillEvent) -> None:
    raise AssertionError("no such event is published")


if _target.queues > 1:
    on(OrderEvent, name="idle.orders", broker=_broker)(_idle)
if _target.queues > 2:
    on(FillEvent, name="idle.fills", broker=_broker)(_idle)
