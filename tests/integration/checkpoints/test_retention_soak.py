"""Constant load for minutes, with checkpoints and retention at short intervals: the server's memory
stays flat, and nothing unread or unsettled goes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.conftest import OwnServer
from tests.integration.logs.harness import Bench, Echo, Spread

from streamatiq.scheduler.checkpoints import Checkpoints, PrunePolicy
from streamatiq.scheduler.retention import Retention

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

#: Seconds of load.
LASTS_S = float(os.environ.get("SOAK_S", "240"))
#: Events a second.
RATE = 300


def test_memory_stays_flat(own_server: OwnServer, open_bench: Callable[..., Bench]) -> None:
    server = own_server()
    options = {
        "redis": {"stream_max_length": 1_000, "retry_delay": 0.05},
        # So that the windows of ids, which take memory too, are full early.
        "event_bus": {"idempotency_window": 10.0, "max_queue_size": 0},
        # Its 100,000 newest records are kept, of each stream: more than what is written here.
        "audit": {"level": "off"},
    }
    bench = open_bench(server.url, **options)
    handled: set[str] = set()
    lock = threading.Lock()
    fails = {"17", "170", "1700"}

    @bench.on(Spread, name="fast", start="earliest")
    def fast(event: Spread) -> Echo:
        if event.text in fails:
            fails.discard(event.text)
            raise RuntimeError("once")
        with lock:
            handled.add(event.text)
        return Echo(ts_event=1, text=event.text)

    slow_seen: list[str] = []

    @bench.on(Echo, name="slow", start="earliest", batch=200, linger_ms=300)
    def slow(events: list[Echo]) -> None:
        time.sleep(0.02)
        slow_seen.extend(event.text for event in events)

    bench.start(threads=6)
    checkpoints = Checkpoints(bench.broker)
    memory: list[int] = []
    published, begun = 0, time.monotonic()
    with bench.broker.client() as client:
        while (passed := time.monotonic() - begun) < LASTS_S:
            due = int(passed * RATE)
            events = [
                Spread(ts_event=1, key=f"K{n % 50}", text=str(n)) for n in range(published, due)
            ]
            bench.logs.publish_many(events)
            published = due
            checkpoints.create("soak")
            checkpoints.prune(PrunePolicy(3))
            Retention(bench.broker).run()
            info: Any = client.info("memory")
            memory.append(info["used_memory"])
            threading.Event().wait(0.5)
    bench.settled("fast", "slow", timeout_s=60)
    assert len(handled) == published
    assert len(slow_seen) == len(set(slow_seen)) == published
    third = len(memory) // 3
    middle, last = memory[third : 2 * third], memory[2 * third :]
    assert max(last) < 1.15 * max(middle), (max(middle), max(last))
