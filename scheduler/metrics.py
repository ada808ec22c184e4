"""Metrics of one scheduler process, for Prometheus. See docs/scheduler.md for the table."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

__all__ = ["SchedulerMetrics"]

#: Upper bounds of lateness, seconds.
LATENESS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
#: Upper bounds of how long runs take, seconds.
LENGTH_S = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 300, 1800, 7200)


class SchedulerMetrics:
    """Counters of one process, in a registry of their own. Thread-safe."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        name = "streamatiq_scheduler_"
        self.leader = Gauge(f"{name}leader", "1 while this process leads.", registry=registry)
        self.epoch = Gauge(f"{name}epoch", "Epoch of its last term.", registry=registry)
        self.schedules = Gauge(
            f"{name}schedules", "Schedules that it plans; 0 if it does not lead.", registry=registry
        )
        self.active = Gauge(f"{name}active_runs", "Runs that it does now.", registry=registry)
        self._runs = Counter(
            f"{name}runs", "Runs that ended.", ("kind", "outcome"), registry=registry
        )
        self._missed = Counter(f"{name}missed", "Fire times that were missed.", registry=registry)
        self._lateness = Histogram(
            f"{name}lateness_seconds",
            "From the fire time, jitter included, to the begin of the run.",
            buckets=LATENESS_S,
            registry=registry,
        )
        self._length = Histogram(
            f"{name}run_seconds",
            "How long runs took.",
            ("kind",),
            buckets=LENGTH_S,
            registry=registry,
        )

    def began(self, due_ms: int, began_ms: int, *, asked: bool) -> None:
        """A run began: it was due then. One that was asked for is never late."""
        if not asked:
            self._lateness.observe(max(0, began_ms - due_ms) / 1000)

    def ended(self, kind: str, outcome: str, length_s: float) -> None:
        """A run ended."""
        self._runs.labels(kind, outcome).inc()
        self._length.labels(kind).observe(length_s)

    def missed(self, count: int) -> None:
        """Fire times were missed."""
        self._missed.inc(count)

    def exposition(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
