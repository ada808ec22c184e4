"""The demo's source: its rate follows from the clock alone, however long a batch takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest

from streamatiq.demo.source import MAX_BATCH, Source
from streamatiq.errors import BrokerConnectionError
from streamatiq.events import Event, MarketDataEvent, Trade


def trades() -> Iterator[MarketDataEvent]:
    for number in itertools.count():
        yield MarketDataEvent(
            ts_event=number, key="SIM:A", data=Trade(price="1", size="1", trade_id=str(number))
        )


class Publisher:
    """Takes `takes_s` of its own clock for each batch."""

    def __init__(self, takes_s: float) -> None:
        self.now_s = 100.0
        self.takes_s = takes_s
        self.batches: list[Sequence[Event]] = []

    def clock(self) -> float:
        self.now_s += 0.001  # or a source with nothing due would wait for ever
        return self.now_s

    def publish_many(self, events: Sequence[Event]) -> None:
        self.batches.append(events)
        self.now_s += self.takes_s


def run(publisher: Publisher, rate: float, seconds: float) -> Source:
    source = Source(
        publisher.publish_many, trades(), rate=rate, seconds=seconds, clock=publisher.clock
    )
    source.run()  # in this thread
    return source


def test_a_source_that_keeps_up_publishes_all_in_order() -> None:
    publisher = Publisher(takes_s=0.002)
    source = run(publisher, rate=1000, seconds=0.4)
    assert source.published == 400
    assert source.kept_up
    published = [event.ts_event for batch in publisher.batches for event in batch]
    assert published == list(range(400))
    assert max(map(len, publisher.batches)) < 20


def test_a_batch_that_takes_long_is_made_up_for() -> None:
    publisher = Publisher(takes_s=0.3)
    source = run(publisher, rate=1000, seconds=2)
    assert source.published == 2000


def test_a_source_that_cannot_keep_up_ends_at_its_time_and_says_so() -> None:
    publisher = Publisher(takes_s=0.5)
    source = run(publisher, rate=50_000, seconds=2)
    assert all(len(batch) <= MAX_BATCH for batch in publisher.batches)
    assert source.elapsed_s < 2 + 2 * 0.5
    assert source.published < 10_000
    assert not source.kept_up


def test_a_stopped_source_has_kept_up_until_then() -> None:
    publisher = Publisher(takes_s=0)

    def publish_many(events: Sequence[Event]) -> None:
        publisher.publish_many(events)
        if len(publisher.batches) == 20:
            source.stop()

    source = Source(publish_many, trades(), rate=1000, seconds=60, clock=publisher.clock)
    source.run()
    assert len(publisher.batches) == 20
    assert source.published < 60_000
    assert source.kept_up


def test_an_error_ends_it_and_is_kept() -> None:
    def refuse(events: Sequence[Event]) -> None:
        raise BrokerConnectionError("gone")

    source = Source(refuse, trades(), rate=1000, seconds=60)
    source.start()
    source.join(10)
    assert not source.is_alive()
    assert isinstance(source.error, BrokerConnectionError)
    assert source.published == 0


@pytest.mark.parametrize("seconds", [0.05, 1.0])
def test_a_started_source_stops_when_asked(seconds: float) -> None:
    publisher = Publisher(takes_s=0)
    source = Source(publisher.publish_many, trades(), rate=10, seconds=seconds)
    source.start()
    source.stop()
    assert not source.is_alive()
