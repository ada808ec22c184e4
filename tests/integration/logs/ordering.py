"""What ordered handlers did, and whether it was in order."""

from __future__ import annotations

import itertools
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.integration.logs.harness import Bench, Spread

from streamatiq import Partitioned

__all__ = ["Ledger", "OpenBench", "key_on", "spread"]

OpenBench = Callable[..., Bench]


def spread(key: str, text: object) -> Spread:
    return Spread(ts_event=1, key=key, text=str(text))


class Ledger:
    """What handlers did, by key. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.done: dict[str, list[str]] = defaultdict(list)
        self.running: dict[str, int] = defaultdict(int)
        self.most_at_once = 0
        self.overlaps: list[str] = []
        #: Who has run what: pairs of a process and a text, by key.
        self.where: dict[str, list[tuple[object, str]]] = defaultdict(list)

    @contextmanager
    def run(self, event: Spread, who: object = None) -> Iterator[None]:
        """While the handler runs; it counts as done if it raises nothing."""
        self.begin(event.key, who, event.text)
        try:
            yield
        except BaseException:
            with self._lock:
                self.running[event.key] -= 1
            raise
        self.end(event.key, event.text)

    def begin(self, key: str, who: object = None, text: str = "") -> None:
        with self._lock:
            self.running[key] += 1
            if self.running[key] > 1:
                self.overlaps.append(key)
            self.most_at_once = max(self.most_at_once, sum(self.running.values()))
            self.where[key].append((who, text))

    def end(self, key: str, text: str) -> None:
        with self._lock:
            self.running[key] -= 1
            self.done[key].append(text)

    @property
    def count(self) -> int:
        with self._lock:
            return sum(len(texts) for texts in self.done.values())

    def by(self, who: object) -> int:
        """How many runs this process began."""
        with self._lock:
            return sum(one == who for runs in self.where.values() for one, _ in runs)

    def check(self, wanted: dict[str, list[str]]) -> None:
        """All that was wanted was done, once, in order, and one by one."""
        assert not self.overlaps
        assert {key: self.done[key] for key in wanted} == wanted


def key_on(partition: int, nth: int = 0) -> str:
    """The `nth` key whose events stand in this partition of `Spread`."""
    assert isinstance(Spread.log, Partitioned)
    partitions = Spread.log.partitions
    keys = (f"k{n}" for n in itertools.count())
    there = (key for key in keys if zlib.crc32(key.encode()) % partitions == partition)
    return next(itertools.islice(there, nth, None))
