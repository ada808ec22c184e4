"""What the apps with events share: how a tick becomes an event, the broker, and the producer.

An event carries what the tick carries, as Decimals with all checks on. Its source is padded so that
what the log stores is as long as the other systems' tick, envelope included.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import dramatiq

from streamatiq import MarketDataEvent, Quote, RedisStreamsBroker, encode
from streamatiq.settings import Settings

from ..ticks import TICK_BYTES, Tick, make_tick
from .base import BULK_CALL, QUEUE, RECOVERS, THREADS, Target
from .streamatiq_settings import UNLIMITED

__all__ = ["EventProducer", "number_of", "open_broker"]

_BASE = make_tick(0)["n"]


class EventProducer:
    """`logs.publish`, and `logs.publish_many` for bulk.

    Args:
        broker: of the app.
        event_class: what ticks become.
        keys: how many keys the events have in turn.
    """

    abilities = frozenset({BULK_CALL, THREADS, RECOVERS})

    def __init__(
        self,
        broker: RedisStreamsBroker,
        event_class: type[MarketDataEvent] = MarketDataEvent,
        keys: int = 1,
    ) -> None:
        self.broker = broker
        self._event_class = event_class
        # As long as the tick's own key.
        self._keys = [f"XNAS:B{key:04d}" for key in range(keys)]
        self._source = "b"
        stored = encode(self.to_event(make_tick(0)).stamped(make_tick(0)["ts_event"]))
        self._source = "b" * max(1, TICK_BYTES - len(stored) + 1)

    def prepare(self) -> None:
        self.broker.logs.check_layout(self._event_class)

    def send(self, tick: Tick) -> None:
        self.broker.logs.publish(self.to_event(tick))

    def send_many(self, ticks: Sequence[Tick]) -> None:
        self.broker.logs.publish_many([self.to_event(tick) for tick in ticks])

    def send_delayed(self, ticks: Sequence[Tick], delay_ms: int) -> None:
        raise NotImplementedError("events are not delayed")

    def wait_settled(self, timeout_s: float, delayed: int = 0) -> bool:
        try:
            self.broker.join(QUEUE, timeout=int(timeout_s * 1000))
        except dramatiq.errors.QueueJoinTimeout:
            return False
        return True

    def to_event(self, tick: Tick) -> MarketDataEvent:
        """Build the event of a tick."""
        return self._event_class(
            ts_event=tick["ts_event"],
            source=self._source,
            key=self._keys[tick["n"] % len(self._keys)],
            data=Quote(
                bid_px=tick["bid"],
                bid_sz=tick["bid_size"],
                ask_px=tick["ask"],
                ask_sz=tick["ask_size"],
                update_id=tick["n"],
            ),
        )


def open_broker(target: Target, settings: Settings = UNLIMITED) -> RedisStreamsBroker:
    """Open the broker of an app, make it the global one, and tell its metrics where to go."""
    os.environ["STREAMATIQ_METRICS_PORT"] = "off"
    os.environ["STREAMATIQ_METRICS_DIR"] = str(target.ledger.with_name("metrics"))
    broker = RedisStreamsBroker(url=target.url, namespace=target.namespace, settings=settings)
    dramatiq.set_broker(broker)
    return broker


def number_of(event: MarketDataEvent) -> int:
    """Return the number of the tick that an event was made of: its place in the ledger."""
    assert isinstance(event.data, Quote)
    assert event.data.update_id is not None
    return event.data.update_id - _BASE
