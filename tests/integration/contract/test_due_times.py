"""What is due begins on time, though a server looks at the time-outs of blocked reads rarely."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import dramatiq
import pytest
import redis
from tests.integration.contract.kit import StartWorker

from streamatiq import RedisStreamsBroker
from streamatiq.broker.connections import Alarm, Endpoint, Link
from streamatiq.broker.unblocking import Unblocker


@pytest.fixture
def link(broker: RedisStreamsBroker) -> Iterator[Link]:
    with closing(Link(broker.endpoint)) as link:
        yield link


@pytest.fixture
def unblocker(broker: RedisStreamsBroker) -> Iterator[Unblocker]:
    with closing(Unblocker(broker.endpoint)) as unblocker:
        yield unblocker


def _unblocks(client: redis.Redis) -> int:
    stats: Any = client.info("commandstats")
    calls: int = stats.get("cmdstat_client|unblock", {}).get("calls", 0)
    return calls


def test_the_read_is_ended_when_something_is_due(
    broker: RedisStreamsBroker, client: redis.Redis, start_worker: StartWorker
) -> None:
    ran = threading.Event()

    @dramatiq.actor(broker=broker)
    def act() -> None:
        ran.set()

    before = _unblocks(client)
    start_worker(broker)
    act.send_with_options(delay=150)
    assert ran.wait(10)
    assert _unblocks(client) > before


def test_an_alarm_makes_the_reply_come(
    broker: RedisStreamsBroker, link: Link, unblocker: Unblocker
) -> None:
    rings: list[float] = []
    client_id = link.client_id()

    def ring() -> None:
        rings.append(time.monotonic())
        unblocker.unblock(client_id)

    at_s = time.monotonic() + 0.03
    read = ("BLPOP", f"{broker.keys.namespace}:nothing", 9)
    assert link.send_many([read, ("ECHO", "x")], alarm=Alarm(at_s, ring)) == [None, b"x"]
    assert rings
    assert rings[0] >= at_s


def test_an_alarm_does_not_ring_when_the_reply_is_there(link: Link) -> None:
    def ring() -> None:
        raise AssertionError("rang")

    alarm = Alarm(time.monotonic() + 5, ring)
    assert link.send_many([("ECHO", "x")], alarm=alarm) == [b"x"]


def test_an_alarm_that_is_not_heard_is_given_up(broker: RedisStreamsBroker, link: Link) -> None:
    rings: list[int] = []
    alarm = Alarm(time.monotonic(), lambda: rings.append(1))
    read = ("BLPOP", f"{broker.keys.namespace}:nothing", 0.3)
    assert link.send_many([read], alarm=alarm) == [None]
    assert len(rings) == 5


def test_without_the_permission_it_is_said_once(
    broker: RedisStreamsBroker, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.acl_setuser(
        "nounblock", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-client|unblock"]
    )
    url = broker.endpoint.url.replace("://", "://nounblock:x@", 1)
    with closing(Unblocker(Endpoint(url))) as unblocker, caplog.at_level("INFO"):
        unblocker.unblock(1)
        unblocker.unblock(1)
    client.acl_deluser("nounblock")
    assert caplog.text.count("may be up to 0.1 s late") == 1


def test_without_a_server_nothing_is_raised() -> None:
    with closing(Unblocker(Endpoint("redis://127.0.0.1:1"))) as unblocker:
        unblocker.unblock(1)
