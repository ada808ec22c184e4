"""Guards on the twin: handlers with breakers and limiters are tested as any other."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from dramatiq.rate_limits import ConcurrentRateLimiter

from streamatiq import Breaker, Event, Partitioned, on
from streamatiq.testing import TestBroker


class Order(Event, type="guards.order", log=Partitioned(1)):
    number: int = 0


def orders(count: int) -> list[Order]:
    return [Order(ts_event=1, key="BTC", number=n) for n in range(count)]


def test_a_breaker_opens_and_its_probe_closes_it_once_the_clock_moves() -> None:
    down = True
    ran: list[int] = []
    with TestBroker() as broker:

        @on(Order, name="venue", breaker=Breaker(failure_threshold=2, reset_time_s=3600))
        def venue(event: Order) -> None:
            ran.append(event.number)
            if down:
                raise OSError

        broker.publish(*orders(4))
        with suppress(TimeoutError):  # what waits for a breaker is something left to do
            broker.run_until_idle(timeout_s=0.3, skip_delays=False)
        assert ran == [0, 1]
        assert [one.state for one in broker.breakers()] == ["open"]
        down = False
        broker.twin.advance(3600)
        broker.run_until_idle()
        assert sorted(ran) == [0, 0, 1, 1, 2, 3]
        assert broker.breakers() == []


def test_a_halt_holds_and_ends() -> None:
    ran: list[int] = []
    with TestBroker() as broker:

        @on(Order, name="halted")
        def halted(event: Order) -> None:
            ran.append(event.number)

        broker.halt("halted", reason="x")
        broker.publish(*orders(3))
        with pytest.raises(TimeoutError):
            broker.run_until_idle(timeout_s=0.2)
        assert ran == []
        broker.resume("halted")
        broker.run_until_idle()
        assert sorted(ran) == [0, 1, 2]


def test_a_limiter() -> None:
    ran: list[int] = []
    with TestBroker() as broker:
        backend = broker.rate_limiter_backend()

        @on(Order, name="limited", limiter=lambda event: ConcurrentRateLimiter(backend, event.key))
        def limited(event: Order) -> None:
            ran.append(event.number)

        broker.publish(*orders(5))
        broker.run_until_idle(threads=4)
        assert sorted(ran) == [0, 1, 2, 3, 4]
        broker.open_breaker("unused", reason="x", reset_time_s=math.inf)
        assert len(broker.breakers()) == 1
