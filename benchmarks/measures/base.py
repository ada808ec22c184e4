"""What a measure is, and how its case is named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ..load import percentile
from ..results import Sample
from ..stage import Bench
from ..systems import System

__all__ = ["NONE", "Measure", "Values", "percentiles", "processes_case", "share_of"]

#: Metric name, unit included, to figure; None: cannot be had on this machine.
Values = dict[str, float | None]

#: No ability is needed.
NONE: frozenset[str] = frozenset()


class Measure(Protocol):
    """One case of one measure."""

    @property
    def needs(self) -> frozenset[str]:
        """Abilities that a system must have to be measured; see `apps.base`."""

    @property
    def once(self) -> bool:
        """Whether only the first round takes it, because it is long."""

    @property
    def name(self) -> str:
        """Name of the measure, as `--only` takes it."""

    @property
    def case(self) -> str:
        """Which variant of it."""

    def measure(self, bench: Bench, system: System, round_: int) -> Sample:
        """Run it once.

        Raises:
            ChildFailed: the system could not run it to the end.
        """


def processes_case(processes: int) -> str:
    """Return the name of a case that differs in its worker processes."""
    return "1 process" if processes == 1 else f"{processes} processes"


def share_of(messages: int, system: System) -> int:
    """Return how many messages of a long measure a system gets."""
    return max(1, round(messages * system.long_share))


def percentiles(values: Iterable[float], unit: str, shares: Iterable[int] = (50, 99)) -> Values:
    """Return the percentiles and the largest of some values, named `p50_UNIT`, `max_UNIT`."""
    ascending = sorted(values)
    found: Values = {f"p{share}_{unit}": percentile(ascending, share / 100) for share in shares}
    found[f"max_{unit}"] = ascending[-1]
    return found
