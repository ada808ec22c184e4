"""What guards look like to Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.logs.harness import Bench, Note, note
from tests.support import wait_until

from streamatiq import Breaker, LatencyMetrics
from streamatiq.workers import metric_guards


@pytest.fixture
def metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LatencyMetrics:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "metrics"))
    return LatencyMetrics(every_s=0.02)


def test_halts_and_breakers(open_bench: Callable[..., Bench], metrics: LatencyMetrics) -> None:
    bench = open_bench(middleware=[metrics])
    down = True

    @bench.on(Note, name="venue", breaker=Breaker(failure_threshold=2, reset_time_s=0.2))
    def venue(event: Note) -> None:
        if down:
            raise OSError

    bench.start(threads=1)

    def shows(line: str) -> None:
        wait_until(lambda: f"\n{line}\n" in metrics.exposition().decode(), what=line)

    shows('streamatiq_halts{scope="key"} 0.0')
    bench.broker.halt(key="BTC", reason="x")
    shows('streamatiq_halts{scope="key"} 1.0')
    bench.logs.publish_many([note(n) for n in range(2)])
    shows('streamatiq_breaker_state{breaker="venue"} 2.0')
    shows('streamatiq_breaker_changes_total{breaker="venue",to="open"} 1.0')
    down = False
    shows('streamatiq_breaker_state{breaker="venue"} 0.0')
    shows('streamatiq_breaker_changes_total{breaker="venue",to="half_open"} 1.0')
    shows('streamatiq_breaker_changes_total{breaker="venue",to="closed"} 1.0')


def test_labels_are_bounded(
    open_bench: Callable[..., Bench], metrics: LatencyMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric_guards, "MAX_BREAKERS", 2)
    bench = open_bench(middleware=[metrics])
    bench.broker.declare_queue("default")
    bench.start()
    for name in ("a", "b", "c", "d"):
        bench.broker.open_breaker(name, reason="x")
    line = '\nstreamatiq_breaker_state{breaker="other"} 2.0\n'
    wait_until(lambda: line in metrics.exposition().decode())
    wait_until(lambda: metrics.exposition().decode().count("streamatiq_breaker_state{") == 3)
