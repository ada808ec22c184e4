"""How much may wait to be settled, and that what is urgent does not wait for what is not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.integration.logs.harness import Note
from tests.support import wait_until

from streamatiq.broker import committer as module
from streamatiq.broker.committer import MAX_BATCH, WINDOW, Committer
from streamatiq.broker.connections import Endpoint, Link, RetryPolicy
from streamatiq.broker.in_flight import InFlight
from streamatiq.broker.keys import Keys
from streamatiq.broker.settlements import DONE, BatchOutcome, Settlement
from streamatiq.broker.sources import AuditLevel, Source
from streamatiq.broker.subscriptions import Subscription
from streamatiq.errors import BrokerConnectionError


def source(name: str, priority: int) -> Source:
    subscription = Subscription(name, (Note,), "new", priority=priority)
    return subscription.sources(Keys("unit"), {}, AuditLevel.OFF)[0]


TICKS, ORDERS = source("ticks", 100), source("orders", 0)


def several(of: Source, count: int) -> list[Settlement]:
    return [Settlement(of, "c", b"%d-0" % n, b"", DONE) for n in range(count)]


class Stalled:
    """A committer whose server answers when it is let."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.settled: list[Settlement] = []
        self.committer = Committer(
            Endpoint("redis://127.0.0.1:1"),
            retry=RetryPolicy(1, 0.01),
            window_ms=1,
            on_fenced=lambda consumer: None,
            in_flight=InFlight(),
            on_settled=lambda batch, outcome, at_ns: self.settled.extend(batch),
        )

    def fill(self) -> None:
        """A full window of ticks, of which the first is under way."""
        self.committer.submit(several(TICKS, 1)[0])
        wait_until(lambda: self.committer.batches == 1)
        self.committer.submit(*several(TICKS, WINDOW - 1))


@contextmanager
def stalled() -> Iterator[Stalled]:
    one = Stalled()
    try:
        yield one
    finally:
        one.answers.set()
        one.committer.close(10)


@pytest.fixture
def stall(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stalled]:
    def run(link: Link, call: Any) -> BatchOutcome:
        assert one.answers.wait(10)
        return BatchOutcome()

    monkeypatch.setattr(Link, "run", run)
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    with stalled() as one:
        yield one


def test_an_order_is_taken_over_where_the_window_is_full_of_ticks_and_settled_first(
    stall: Stalled,
) -> None:
    stall.fill()
    with pytest.raises(BrokerConnectionError, match="256 deliveries wait"):
        stall.committer.submit(several(TICKS, 1)[0])
    (order,) = several(ORDERS, 1)
    stall.committer.submit(order)
    stall.answers.set()

    assert stall.committer.flush(10)
    assert stall.settled.index(order) == 1
    assert len(stall.settled) == WINDOW + 1
    stall.committer.submit(several(TICKS, 1)[0])  # there is room again


def test_a_batch_is_taken_over_as_a_whole_and_less_urgent_ones_wait_for_urgent_ones(
    stall: Stalled,
) -> None:
    stall.committer.submit(*several(ORDERS, WINDOW - 1))
    stall.committer.submit(*several(ORDERS, 100))
    assert stall.committer.unsettled == WINDOW + 99
    for wanted in (TICKS, ORDERS):
        with pytest.raises(BrokerConnectionError):
            stall.committer.submit(*several(wanted, 1))
    stall.committer.submit()
    stall.answers.set()

    assert stall.committer.flush(10)
    assert len(stall.settled) == WINDOW + 99
    assert stall.committer.batches <= (WINDOW + 99) // MAX_BATCH + 2
