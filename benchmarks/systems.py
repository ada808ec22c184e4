"""The systems that can be measured, by the name that `--systems` takes."""

from __future__ import annotations

import sys
from dataclasses import dataclass

__all__ = ["SYSTEMS", "System"]


@dataclass(frozen=True, slots=True)
class System:
    """One system under test.

    Attributes:
        name: as on the command line and in tables.
        title: what it is, for the reader of a table.
        app: module of its broker, handler and producer.
        by_dramatiq: whether its workers run under the `dramatiq` command.
        drain_factor: how many times `--messages` it drains. A fast system needs more messages to
            run for seconds, and rates over less than a second say little.
        long_share: its share of the messages of the long measures: a slow system would take many
            minutes for a million, and shows the same with fewer.
        idle_share: its share of the seconds with nothing to do: what polls often is counted well
            enough in less.
        in_time: whether it promises to handle what a killed worker held, and delayed messages that
            are due, before a measure gives up: what is not handled then is lost.
        measures: the only measures that take it; empty: all that it has the abilities for.
    """

    name: str
    title: str
    app: str
    by_dramatiq: bool
    drain_factor: int
    long_share: float = 1.0
    idle_share: float = 1.0
    in_time: bool = False
    measures: frozenset[str] = frozenset()

    def takes_part(self, measure: str) -> bool:
        """Whether `measure` takes it, if it has the abilities."""
        return not self.measures or measure in self.measures

    def worker_commands(self, processes: int, threads: int) -> list[list[str]]:
        """Return the commands that start its worker processes."""
        if not self.by_dramatiq:
            return [[sys.executable, "-m", self.app]] * processes
        options = ["--processes", str(processes), "--threads", str(threads)]
        return [[sys.executable, "-m", "dramatiq", self.app, *options]]


#: What takes the systems that differ from `streamatiq-on` in how their events are handled only.
_SHORT = frozenset({"drain", "latency", "memory"})

_ALL = (
    System(
        "floor", "redis-py: XREADGROUP COUNT 100, json, XACK", "benchmarks.apps.floor", False, 20
    ),
    System(
        "redisbroker",
        "Dramatiq RedisBroker, actor",
        "benchmarks.apps.redisbroker",
        True,
        1,
        long_share=0.05,
        idle_share=0.25,
    ),
    System(
        "streamatiq",
        "RedisStreamsBroker, actor",
        "benchmarks.apps.streamatiq_actor",
        True,
        4,
        in_time=True,
    ),
    System(
        "streamatiq-on",
        "RedisStreamsBroker, @on",
        "benchmarks.apps.streamatiq_on",
        True,
        4,
        in_time=True,
    ),
    System(
        "streamatiq-guarded",
        "the same with a business key, breaker, latency metrics",
        "benchmarks.apps.streamatiq_guarded",
        True,
        4,
        measures=_SHORT,
    ),
    System(
        "streamatiq-guarded-nokey",
        "the same without the key",
        "benchmarks.apps.streamatiq_guarded_nokey",
        True,
        4,
        measures=_SHORT,
    ),
    System(
        "streamatiq-batch",
        "@on with batches of 100",
        "benchmarks.apps.streamatiq_batch",
        True,
        10,
        measures=_SHORT,
    ),
    System(
        "streamatiq-ordered",
        "@on with ordered=True, 16 keys in 4 partitions",
        "benchmarks.apps.streamatiq_ordered",
        True,
        4,
        measures=_SHORT,
    ),
    System(
        "streamatiq-mixed",
        "@on for market data, orders and fills in one process",
        "benchmarks.apps.streamatiq_mixed",
        True,
        1,
        measures=frozenset({"flood"}),
    ),
)

#: Every system by name, in the order of the tables.
SYSTEMS = {system.name: system for system in _ALL}
