"""Which checkpoints go: a policy, and the one rule that no policy overrides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .model import CheckpointInfo

__all__ = ["PrunePolicy", "kept"]


@dataclass(frozen=True, slots=True)
class PrunePolicy:
    """Which checkpoints stay. Each of them keeps in the logs what it needs.

    Parameters:
      keep_last: The newest ones.
      keep_hourly: Of so many hours that have any, the newest of each.
      keep_daily: The same of days, UTC.
    """

    keep_last: int = 10
    keep_hourly: int = 0
    keep_daily: int = 0

    def __post_init__(self) -> None:
        for name in ("keep_last", "keep_hourly", "keep_daily"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"{name} is {value!r}; use a whole number from 0.")


def kept(policy: PrunePolicy, infos: Sequence[CheckpointInfo]) -> set[str]:
    """The ids of those that `policy` keeps. `infos` are in the order of their ids."""
    newest_first = list(reversed(infos))
    stay = {one.id for one in newest_first[: policy.keep_last]}
    for number, unit in ((policy.keep_hourly, "%Y%m%dT%H"), (policy.keep_daily, "%Y%m%d")):
        seen: set[str] = set()
        for one in newest_first:
            bucket = f"{one.at:{unit}}"
            if bucket in seen:
                continue
            if len(seen) == number:
                break
            seen.add(bucket)
            stay.add(one.id)
    return stay
