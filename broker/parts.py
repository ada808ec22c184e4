"""The streams that make up a log."""

from __future__ import annotations

from ..events import Laned, Partitioned
from .keys import LANES

__all__ = ["parts"]


def parts(log: Partitioned | Laned) -> list[str]:
    """The names of a log's streams: partition numbers, or lanes from high to low."""
    if isinstance(log, Partitioned):
        return [str(number) for number in range(log.partitions)]
    return [lane.value for lane in LANES]
