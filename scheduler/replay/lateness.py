"""How late events were: percentiles in bounded memory, which can be saved and go on.

Buckets grow by a sixteenth: a percentile is at most 6.25 % too high, and never too low.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

__all__ = ["Lateness"]

#: Bits of a value that are kept.
_BITS = 4


class Lateness:
    """Counts how late, in ns. Not thread-safe: the one that delivers counts.

    Parameters:
      buckets: What `saved` gave.
      most_ns: The latest so far.
      sum_ns: Of all.
    """

    def __init__(
        self, buckets: Mapping[str, int] | None = None, most_ns: int = 0, sum_ns: int = 0
    ) -> None:
        self._counts: Counter[int] = Counter()
        for bucket, count in (buckets or {}).items():
            self._counts[int(bucket)] = count
        self.most_ns = most_ns
        self.sum_ns = sum_ns

    def add(self, late_ns: int, count: int = 1) -> None:
        """Counts `count` that were so late; what is early is on time."""
        late_ns = max(0, late_ns)
        self._counts[_bucket(late_ns)] += count
        self.most_ns = max(self.most_ns, late_ns)
        self.sum_ns += late_ns * count

    @property
    def count(self) -> int:
        """How many were counted."""
        return self._counts.total()

    def percentile_ms(self, percent: float) -> float:
        """At most so late were `percent` of all, ms; 0 of none."""
        wanted = self.count * percent / 100
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= wanted:
                return min(_upper(bucket), self.most_ns) / 1e6
        return 0.0

    def saved(self) -> dict[str, int]:
        """The buckets, for JSON."""
        return {str(bucket): count for bucket, count in sorted(self._counts.items())}


def _bucket(value: int) -> int:
    shift = max(0, value.bit_length() - _BITS - 1)
    return (shift << (_BITS + 1)) + (value >> shift)


def _upper(bucket: int) -> int:
    shift, rest = divmod(bucket, 1 << (_BITS + 1))
    return ((rest + 1) << shift) - 1
