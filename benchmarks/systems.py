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
    """

    name: str
    title: str
    app: str
    by_dramatiq: bool
    drain_factor: int
    long_share: float = 1.0
    idle_share: float = 1.0
    in_time: bool = False

    def worker_commands(self, processes: int, threads: int) -> list[list[str]]:
        """Return the commands that start its worker processes."""
        if not self.by_dramatiq:
            return [[sys.executable, "-m", self.app]] * processes
        options = ["--processes", str(processes), "--threads", str(threads)]
        return [[sys.executable, "-m", "dramatiq", self.app, *options]]


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
)

#: Every system by name, in the order of the tables.
SYSTEMS = {system.name: system for system in _ALL}
