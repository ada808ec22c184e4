"""A small latency histogram that can be added up: counts by logarithmic bucket.

Bucket b covers [2^(b/8), 2^((b+1)/8)) microseconds, so a percentile read from it is right within
9 %. Negative latencies (clocks that differ) are counted apart, in bucket `NEGATIVE`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

__all__ = ["NEGATIVE", "add_up", "bucket", "percentile_us"]

#: Where negative latencies are counted.
NEGATIVE = -1
#: Buckets a factor of two.
PER_OCTAVE = 8


def bucket(latency_us: float) -> int:
    """The bucket of a latency; below 1 us counts as 1 us."""
    if latency_us < 0:
        return NEGATIVE
    return int(math.log2(max(latency_us, 1.0)) * PER_OCTAVE)


def add_up(histograms: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """The sum of histograms."""
    total: dict[int, int] = {}
    for histogram in histograms:
        for at, count in histogram.items():
            total[at] = total.get(at, 0) + count
    return total


def percentile_us(histogram: Mapping[int, int], percent: float) -> float | None:
    """The latency below which `percent` of what was counted lies; None of nothing.

    The middle of the bucket is returned; negative latencies count as the smallest and give 0.
    """
    total = sum(histogram.values())
    if total == 0:
        return None
    rank = percent / 100 * total
    passed = 0
    at = NEGATIVE
    for at in sorted(histogram):
        passed += histogram[at]
        if passed >= rank:
            break
    return 0.0 if at == NEGATIVE else float(2 ** ((at + 0.5) / PER_OCTAVE))
