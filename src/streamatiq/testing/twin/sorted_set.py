"""A sorted set: members by score, those of one score by their bytes."""

from __future__ import annotations

from bisect import bisect_left, insort

__all__ = ["SortedSet"]


class SortedSet:
    """Members with scores, in order."""

    def __init__(self) -> None:
        self.scores: dict[bytes, float] = {}
        #: (score, member), sorted.
        self.order: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self.order)

    def set(self, member: bytes, score: float) -> None:
        """Adds `member`, or moves it."""
        self.remove(member)
        self.scores[member] = score
        insort(self.order, (score, member))

    def remove(self, member: bytes) -> bool:
        """Takes `member` out; False if it was not there."""
        score = self.scores.pop(member, None)
        if score is None:
            return False
        del self.order[bisect_left(self.order, (score, member))]
        return True
