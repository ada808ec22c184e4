"""In which order deliveries are settled: what is more urgent first, and each stream in its order.

A settle is what makes an emitted event visible. Behind a flood of market data, fills would else
wait for every tick that was handled before their order.

Not thread-safe: the committer's lock guards it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from .settlements import Settlement

__all__ = ["SettlingOrder", "Together"]

#: Share of each batch that is kept for what is less urgent, so that it never waits for ever.
OTHERS = 0.25

#: Settlements that are committed as a whole; at least one, all of one priority.
Together = Sequence[Settlement]


class SettlingOrder:
    """What waits to be settled.

    Deliveries of one source leave in the order in which they came, for they have one priority; of
    those with the same priority, too.
    """

    def __init__(self) -> None:
        #: By priority; none of them is empty.
        self._lines: dict[int, deque[Together]] = {}
        #: Settlements of each, and of all.
        self._counts: dict[int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, together: Together) -> None:
        """Adds what comes behind all of its priority, and is not to be parted."""
        level = together[0].source.priority
        line = self._lines.get(level)
        if line is None:
            line = self._lines[level] = deque()
            self._counts[level] = 0
        line.append(together)
        self._counts[level] += len(together)
        self._count += len(together)

    def take(self, most: int) -> list[Together]:
        """Takes out the next ones, at most `most` settlements, or a single unit that is larger: the
        lowest priority numbers first, but for the share of the others, which is divided among them
        in the same way."""
        taken: list[Together] = []
        count = 0
        others = self._count
        levels = sorted(self._lines)
        for at, level in enumerate(levels, 1):
            others -= self._counts[level]
            room = most - count
            # One for each of the others, at least.
            kept = max(0, min(others, max(len(levels) - at, int(room * OTHERS)), room - 1))
            count += self._move(level, room - kept, taken)
        return taken

    def _move(self, level: int, room: int, taken: list[Together]) -> int:
        """Moves what there is room for, and something in any case if nothing was taken yet."""
        line = self._lines[level]
        moved = 0
        while line and (not taken or moved + len(line[0]) <= room):
            taken.append(line.popleft())
            moved += len(taken[-1])
        self._count -= moved
        self._counts[level] -= moved
        if not line:
            del self._lines[level]
            del self._counts[level]
        return moved
