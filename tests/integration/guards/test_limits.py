"""Limits of rates and concurrency by Dramatiq's limiters, on the broker's own server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import dramatiq
import pytest
import redis
from dramatiq.rate_limits import ConcurrentRateLimiter, RateLimiter, WindowRateLimiter
from tests.integration.logs.harness import Bench, Note, note
from tests.support import wait_until

from streamatiq import Limits, errors


class Busy:
    """How many run at a time, of each key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.ran: list[str] = []

    def run(self, key: str, text: str = "", seconds: float = 0.01) -> None:
        with self._lock:
            now = self._now[key] = self._now.get(key, 0) + 1
            self.most[key] = max(self.most.get(key, 0), now)
        threading.Event().wait(seconds)
        with self._lock:
            self._now[key] -= 1
            self.ran.append(text)


def held(bench: Bench, client: redis.Redis, name: str) -> int:
    """How much of a concurrent limiter is in use, by the server."""
    value = client.get(bench.keys.limits.limit(name))
    return int(value or 0)  # type: ignore[arg-type]


def test_concurrency_per_key_over_two_processes(
    open_bench: Callable[..., Bench], client: redis.Redis
) -> None:
    benches = [open_bench(), open_bench()]
    busy = Busy()
    for bench in benches:
        backend = bench.broker.rate_limiter_backend()

        def limiter(event: Note, backend: object = backend) -> RateLimiter | None:
            if not event.key:
                return None
            return ConcurrentRateLimiter(backend, f"venue:{event.key}", limit=2)

        @bench.on(Note, name="limited", limiter=limiter, limiter_delay=10)
        def limited(event: Note) -> None:
            busy.run(event.key, event.text)

        bench.start(threads=4)
    keys = ["a", "b", ""]
    benches[0].logs.publish_many([note(n, key=keys[n % 3]) for n in range(60)])
    benches[0].settled("limited", timeout_s=20)
    assert sorted(busy.ran, key=int) == [str(n) for n in range(60)], "each once: no attempt burnt"
    assert busy.most["a"] <= 2
    assert busy.most["b"] <= 2
    assert held(benches[0], client, "venue:a") == held(benches[0], client, "venue:b") == 0


def test_it_is_given_back_when_the_handler_raises_or_times_out(
    bench: Bench, client: redis.Redis
) -> None:
    ran: list[str] = []
    backend = bench.broker.rate_limiter_backend()

    @bench.on(
        Note,
        name="limited",
        limiter=lambda event: ConcurrentRateLimiter(backend, "one"),
        limiter_delay=10,
        max_retries=0,
        time_limit=100,
    )
    def limited(event: Note) -> None:
        ran.append(event.text)
        if event.text == "raises":
            raise RuntimeError
        while event.text == "hangs":
            time.sleep(0.01)

    worker = bench.start(threads=2)
    bench.broker.emit_after("process_boot")  # begins to look at time limits
    bench.logs.publish_many([note("raises"), note("hangs"), note("fine")])
    wait_until(lambda: sorted(ran) == ["fine", "hangs", "raises"])
    bench.settled("limited")
    assert held(bench, client, "one") == 0
    assert worker is not None


def test_a_window_of_rates(bench: Bench) -> None:
    at_s: list[float] = []
    backend = bench.broker.rate_limiter_backend()

    @bench.on(
        Note,
        name="limited",
        limiter=lambda event: WindowRateLimiter(backend, "rate", limit=3, window=1),
        limiter_delay=20,
    )
    def limited(event: Note) -> None:
        at_s.append(time.time())

    bench.start(threads=4)
    bench.logs.publish_many([note(n) for n in range(7)])
    bench.settled("limited")
    seconds = [int(one) for one in at_s]
    assert len(at_s) == 7
    # The handler begins a moment after it was let through, in the next second at times.
    assert max(seconds.count(one) for one in seconds) <= 4
    assert at_s[-1] - at_s[0] > 1


def test_waiting_is_no_busy_loop(bench: Bench, client: redis.Redis) -> None:
    backend = bench.broker.rate_limiter_backend()
    asked: list[str] = []

    def limiter(event: Note) -> RateLimiter:
        asked.append(event.text)
        return ConcurrentRateLimiter(backend, "taken")

    @bench.on(Note, name="limited", limiter=limiter, limiter_delay=50)
    def limited(event: Note) -> None: ...

    with ConcurrentRateLimiter(backend, "taken").acquire():
        bench.start(threads=2)
        begun_s = time.monotonic()
        bench.logs.publish(note("x"))
        wait_until(lambda: time.monotonic() - begun_s > 0.5)
        assert 3 <= len(asked) <= 22, "every 25 to 75 ms"
    bench.settled("limited")


def test_plain_actors(bench: Bench) -> None:
    bench.broker.add_middleware(Limits())
    backend = bench.broker.rate_limiter_backend()
    busy = Busy()

    @dramatiq.actor(
        broker=bench.broker,
        limiter=lambda venue: ConcurrentRateLimiter(backend, venue),
        limiter_delay=10,
    )
    def call(venue: str) -> None:
        busy.run(venue)

    bench.start(threads=4)
    for _ in range(6):
        call.send("x")
    bench.settled("default")
    assert (busy.most, len(busy.ran)) == ({"x": 1}, 6)


def test_a_limiter_that_cannot_be_asked_runs_nothing(
    bench: Bench, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    backend = bench.broker.rate_limiter_backend()
    client.hset(bench.keys.limits.limit("broken"), "x", "y")
    with pytest.raises(errors.WrongKeyType):
        backend.incr("broken", 1, 2, 1000)

    @bench.on(Note, name="limited", limiter=lambda event: ConcurrentRateLimiter(backend, "broken"))
    def limited(event: Note) -> None:
        raise AssertionError

    bench.start()
    bench.logs.publish(note("x"))
    wait_until(lambda: "before_delivery of" in caplog.text)


def test_limits_of_namespaces_are_apart(open_bench: Callable[..., Bench], redis_url: str) -> None:
    one = open_bench().broker.rate_limiter_backend()
    with Bench(redis_url, "another_namespace") as other:
        assert one.add("k", 1, 10_000)
        assert other.broker.rate_limiter_backend().add("k", 1, 10_000)
        assert not one.add("k", 1, 10_000)
        assert one.incr("k", 1, 2, 10_000)
        assert not one.incr("k", 1, 2, 10_000)
        assert one.decr("k", 2, 0, 10_000)
