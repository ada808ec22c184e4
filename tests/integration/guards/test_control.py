"""How a process follows what is stopped: first state, lost streams, cut connections, its end."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
from tests.integration.faults.servers import PrivateServer
from tests.support import wait_until

from streamatiq import RedisStreamsBroker, Settings
from streamatiq.broker import Scope
from streamatiq.broker import guard_scripts as scripts
from streamatiq.broker.connections import Endpoint, Link
from streamatiq.broker.guards import Guards, Subject
from streamatiq.broker.keys import GuardKeys, Keys
from streamatiq.broker.turning_away import TurnedAway

SUBJECT = Subject("risk", "risk", "BTC", ("venue",), False)


@pytest.fixture
def keys(namespace: str) -> GuardKeys:
    return Keys(namespace).guards


@pytest.fixture
def broker(redis_url: str, namespace: str) -> Iterator[RedisStreamsBroker]:
    made = RedisStreamsBroker(redis_url, namespace=namespace, settings=Settings())
    yield made
    made.close()


@pytest.fixture
def follow(keys: GuardKeys) -> Iterator[Any]:
    started: list[Guards] = []

    def begin(url: str) -> Guards:
        started.append(Guards(keys, Endpoint(url), by=lambda: "h:1:a"))
        started[-1].wait_for_first(5)
        return started[-1]

    yield begin
    for one in started:
        one.stop()


def test_the_first_state_is_known_before_anything_is_read(
    broker: RedisStreamsBroker, redis_url: str, follow: Any
) -> None:
    broker.halt("risk", reason="x")
    guards = follow(redis_url)
    assert guards.admit(SUBJECT) == math.inf
    with pytest.raises(TurnedAway, match="'risk' is halted since"):
        guards.check(SUBJECT)


def test_nothing_runs_while_the_state_cannot_be_read(
    client: redis.Redis, redis_url: str, keys: GuardKeys, follow: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    client.set(keys.halts, "another program's")
    guards = follow(redis_url)
    assert not guards.quiet
    assert guards.admit(SUBJECT) is not None
    with pytest.raises(TurnedAway, match="not known"):
        guards.check(SUBJECT)
    assert "Nothing runs so long" in caplog.text
    client.delete(keys.halts)
    wait_until(lambda: guards.admit(SUBJECT) is None)


def test_changes_that_were_trimmed_away_are_read_as_a_whole(
    broker: RedisStreamsBroker, client: redis.Redis, redis_url: str, keys: GuardKeys, follow: Any
) -> None:
    guards = follow(redis_url)
    broker.halt("a", reason="x")
    wait_until(lambda: len(guards.halts()) == 1)
    # Both in one moment, so that the thread never sees the first of the two changes.
    with closing(Link(Endpoint(redis_url))) as link:
        calls = [scripts.halt(keys, Scope(name), why="x", by="me") for name in "bc"]
        commands = [call.eval() for call in calls]
        link.send_many([("MULTI",), *commands, ("XTRIM", keys.control, "MAXLEN", 1), ("EXEC",)])
    wait_until(lambda: {one.scope.subscription for one in guards.halts()} == {"a", "b", "c"})


def test_a_stream_that_was_deleted_is_followed_from_its_new_beginning(
    broker: RedisStreamsBroker, client: redis.Redis, redis_url: str, keys: GuardKeys, follow: Any
) -> None:
    guards = follow(redis_url)
    for name in "abc":
        broker.halt(name, reason="x")
    wait_until(lambda: len(guards.halts()) == 3)
    client.delete(keys.control, keys.halts)
    broker.halt("d", reason="x")
    wait_until(lambda: [one.scope.subscription for one in guards.halts()] == ["d"])
    broker.halt("e", reason="x")
    wait_until(lambda: len(guards.halts()) == 2)


def test_what_was_known_holds_through_an_outage_and_changes_are_made_up_for(
    private: PrivateServer, namespace: str, follow: Any
) -> None:
    broker = RedisStreamsBroker(private.url, namespace=namespace, settings=Settings())
    broker.halt("risk", reason="x")
    guards = follow(private.url)
    private.kill()
    wait_until(lambda: guards.outages.down)
    assert guards.admit(SUBJECT) == math.inf
    private.start()
    wait_until(lambda: guards.outages.reconnects == 1)
    broker.resume("risk")
    wait_until(lambda: guards.quiet)
    assert guards.is_alive
    broker.close()


def test_a_connection_that_is_cut_is_opened_again(
    broker: RedisStreamsBroker, redis_url: str, client: redis.Redis, follow: Any
) -> None:
    guards = follow(redis_url)
    changed = threading.Event()
    guards.on_change(changed.set)

    def own() -> list[Any]:
        listed: Any = client.client_list()
        return [
            one for one in listed if one["name"] == "streamatiq-control" and "b" in one["flags"]
        ]

    before = {one["id"] for one in wait_until(own)}
    for client_id in before:
        client.client_kill_filter(_id=client_id)
    broker.halt("risk", reason="x")
    assert changed.wait(5)
    assert guards.admit(SUBJECT) == math.inf


def test_a_lost_reply_counts_a_failure_once_and_a_halt_once(
    redis_url: str, keys: GuardKeys, broker: RedisStreamsBroker
) -> None:
    call = scripts.failed(keys, "venue", "run 1", threshold=3, reset_ms=1000, why="w", by="me")
    halt = scripts.halt(keys, Scope("risk"), why="x", by="me")
    with closing(Link(Endpoint(redis_url))) as link:
        for _ in range(2):  # the same call, as the pool repeats it after a lost connection
            link.run(call)
        assert [link.run(halt)[0] for _ in range(2)] == [True, True]
    [one] = broker.breakers()
    assert one.failures == 1
    assert len(list(broker.guard_changes())) == 1


def test_old_failures_are_forgotten(
    broker: RedisStreamsBroker, redis_url: str, keys: GuardKeys, follow: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with closing(Link(Endpoint(redis_url))) as link:
        link.run(scripts.failed(keys, "old", "run", threshold=3, reset_ms=1000, why="w", by="me"))
        broker.open_breaker("open", reason="x")
    monkeypatch.setattr("streamatiq.broker.guard_follower.STALE_MS", -1)
    follow(redis_url)
    wait_until(lambda: [one.name for one in broker.breakers()] == ["open"])


def test_stopping_is_quick_and_repeatable(redis_url: str, follow: Any) -> None:
    guards = follow(redis_url)
    stopping = threading.Thread(target=guards.stop)
    stopping.start()
    stopping.join(2)
    assert not stopping.is_alive()
    assert not guards.is_alive
    guards.stop()


def test_a_callback_that_fails_stops_nothing(
    broker: RedisStreamsBroker, redis_url: str, follow: Any, caplog: pytest.LogCaptureFixture
) -> None:
    guards = follow(redis_url)
    guards.on_change(lambda: 1 / 0)
    broker.halt("risk", reason="x")
    wait_until(lambda: "after a change" in caplog.text)
    broker.resume("risk")
    wait_until(lambda: guards.quiet)
