"""In which order deliveries are settled: what is more urgent first, and each stream in its order.

A settle is what makes an emitted event visible. Behind a flood of market data, fills would else
wait for every tick that was handled before their order.

Not thread-safe: the committer's lock guards it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from .settlements import Settlement

__all__ = ["SettlingOrder"]

#: Share of each batch that is kept for what is less urgent, so that it never waits for ever.
OTHERS = 0.25


class SettlingOrder:
    """What waits to be settled.

    Deliveries of one source leave in the order in which they came, for they have one priority; of
    those with the same priority, too.
    """

    def __init__(self) -> None:
        #: By priority; none of them is empty.
        self._lines: dict[int, deque[Settlement]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def extend(self, settlements: Iterable[Settlement]) -> None:
        """Adds what comes behind all of its priority."""
        for one in settlements:
            line = self._lines.get(one.source.priority)
            if line is None:
                line = self._lines[one.source.priority] = deque()
            line.append(one)
            self._count += 1

    def take(self, most: int) -> list[Settlement]:
        """Takes out the next ones, at most `most`: the lowest priority numbers first, but for the
        share of the others, which is divided among them in the same way."""
        taken: list[Settlement] = []
        others = self._count
        levels = sorted(self._lines)
        for at, level in enumerate(levels, 1):
            others -= len(self._lines[level])
            room = most - len(taken)
            # One for each of the others, at least.
            kept = max(0, min(others, max(len(levels) - at, int(room * OTHERS)), room - 1))
            self._move(level, room - kept, taken)
        return taken

    def _move(self, level: int, count: int, taken: list[Settlement]) -> None:
        line = self._lines[level]
        for _ in range(max(0, min(count, len(line)))):
            taken.append(line.popleft())
            self._count -= 1
        if not line:
            del self._lines[level]
