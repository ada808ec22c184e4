"""Streams and whole servers that vanish under a worker: what is published afterwards is handled."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from typing import Any

import dramatiq
import redis
from tests.integration.logs.harness import Bench, Note, note
from tests.support import wait_gone, wait_until


def test_a_deleted_stream_under_a_blocked_reader(bench: Bench, client: redis.Redis) -> None:
    seen: list[str] = []
    sent: list[int] = []
    bench.on(Note, name="reader")(lambda event: seen.append(event.text))
    actor = dramatiq.actor(sent.append, actor_name="plain", broker=bench.broker)
    bench.start()
    bench.logs.publish(note("before"))
    actor.send(1)
    wait_until(lambda: seen == ["before"] and sent == [1])
    bench.settled("reader", "default")
    client.delete(bench.keys.log("test.note", "0").entries)
    for key in client.scan_iter(match="{" + bench.namespace + ":q:default}:entries.*"):
        client.delete(key)
    bench.logs.publish_many([note("after 1"), note("after 2")])
    actor.send(2)
    wait_until(lambda: len(seen) == 3 and len(sent) == 2)
    bench.settled("reader", "default")
    assert (seen, sent) == (["before", "after 1", "after 2"], [1, 2])


def test_a_deleted_wake_stream_under_a_blocked_reader(bench: Bench, client: redis.Redis) -> None:
    runs: list[str] = []

    @bench.on(Note, name="woken", max_retries=3, min_backoff=100, max_backoff=200)
    def woken(event: Note) -> None:
        runs.append(event.text)
        if len(runs) == 1:
            client.delete(bench.keys.log("test.note", "0").subscription("woken").wake)
            raise RuntimeError("again")

    bench.start()
    bench.logs.publish(note("x"))
    wait_until(lambda: len(runs) == 2)
    bench.settled("woken")


def test_what_is_published_after_the_server_lost_everything_is_handled(
    open_bench: Callable[..., Bench],
    own_server: Callable[..., Any],
    open_client: Callable[[str], redis.Redis],
) -> None:
    """A `start="new"` subscription lives; its group is lost with the data. A publisher may be
    faster than the worker's next attempt to connect."""
    server = own_server("lost")
    bench = open_bench(server.url, redis={"retry_delay": 1.0, "max_retries": 8})
    seen: list[str] = []
    bench.on(Note, name="survivor")(lambda event: seen.append(event.text))
    bench.start()
    bench.logs.publish(note("before"))
    wait_until(lambda: seen == ["before"])
    bench.settled("survivor")
    os.kill(server.pid, signal.SIGKILL)
    wait_gone(server.pid)
    for found in server.data_dir.glob("appendonly*"):
        shutil.rmtree(found) if found.is_dir() else found.unlink()
    again = own_server("lost")
    assert again.url == server.url
    key = bench.keys.log("test.note", "0").entries
    publisher = open_client(again.url)
    assert publisher.exists(key) == 0
    with Bench(again.url, bench.namespace) as other:
        other.logs.publish(note("after"))
    wait_until(lambda: len(seen) == 2, 12, lambda: f"'after' handled, seen {seen}")
    bench.settled("survivor")
    assert seen == ["before", "after"]
