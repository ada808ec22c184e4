"""Every figure of every measure: its name in samples, its title, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["METRICS", "Metric"]


@dataclass(frozen=True, slots=True)
class Metric:
    """How a figure is shown.

    Attributes:
        key: its name in samples.
        title: its name in tables, with the unit.
        more_is_better: which way is better.
        decimals: digits after the point.
        compared: whether a ratio to another system's says anything.
    """

    key: str
    title: str
    more_is_better: bool
    decimals: int
    compared: bool = True


_RATE = Metric("rate_per_s", "messages/s", True, 0)
_GROWTH = Metric("worker_growth", "worker memory, x", False, 3, compared=False)

#: The figures of each measure, in the order of the tables.
METRICS = {
    "drain": (
        _RATE,
        Metric("worker_cpu_s_per_10k", "worker CPU s/10k", False, 2),
        Metric("server_cpu_s_per_10k", "server CPU s/10k", False, 2),
    ),
    "enqueue": (_RATE,),
    "latency": (
        Metric("p50_ms", "p50 ms", False, 2),
        Metric("p90_ms", "p90 ms", False, 2),
        Metric("p99_ms", "p99 ms", False, 2),
        Metric("max_ms", "max ms", False, 1),
        Metric("scheduled_p50_ms", "p50 ms from schedule", False, 2),
        Metric("scheduled_p99_ms", "p99 ms from schedule", False, 2),
        Metric("scheduled_max_ms", "max ms from schedule", False, 1),
    ),
    "memory": (Metric("bytes_per_message", "server bytes/message", False, 0),),
    "delays": (
        Metric("p50_ms", "p50 ms late", False, 2),
        Metric("p99_ms", "p99 ms late", False, 1),
        Metric("max_ms", "max ms late", False, 1),
    ),
    "recovery": (
        Metric("recovery_s", "s to recover", False, 2),
        Metric("interrupted", "handlers interrupted", False, 0, compared=False),
        Metric("ended_again", "run again after the end", False, 0, compared=False),
    ),
    "concurrency": (
        _RATE,
        Metric("share_of_ideal", "share of the ideal", True, 2),
    ),
    "flood": (
        Metric("order_p50_ms", "order, p50 ms", False, 2),
        Metric("order_p99_ms", "order, p99 ms", False, 2),
        Metric("order_max_ms", "order, max ms", False, 1),
        Metric("fill_p50_ms", "fill, p50 ms", False, 2),
        Metric("fill_p99_ms", "fill, p99 ms", False, 2),
        Metric("fill_max_ms", "fill, max ms", False, 1),
        Metric("ticks_per_s", "ticks handled/s", True, 0),
        Metric("ticks_published_per_s", "ticks published/s", True, 0),
    ),
    "endurance": (
        _RATE,
        Metric("worker_mb", "worker MB at the end", False, 1),
        _GROWTH,
        Metric("server_bytes_per_message", "server bytes/message kept", False, 1, compared=False),
    ),
    "idle": (
        Metric("commands_per_s", "commands/s", False, 2),
        Metric("p50_ms", "first message, p50 ms", False, 2),
        Metric("max_ms", "first message, max ms", False, 1),
    ),
    "many-delayed": (
        Metric("fill_per_s", "enqueued/s", True, 0),
        Metric("bytes_per_message", "server bytes/message", False, 0),
        _GROWTH,
        Metric("more_commands_per_s", "more idle commands/s", False, 2, compared=False),
        Metric("p50_ms", "normal message, p50 ms", False, 2),
        Metric("p99_ms", "normal message, p99 ms", False, 2),
        Metric("p50_growth", "normal message, p50, x", False, 2, compared=False),
        Metric("due_per_s", "due at once, messages/s", True, 0),
    ),
}
