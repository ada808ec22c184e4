"""What a replay has done, for people and programs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from .progress import Progress

__all__ = ["ReplayReport", "moment"]


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """Counts, range, durations, pacing errors, digest.

    Parameters:
      replay_id: None: it was iterated over, and not stored.
      status: `done`, `cancelled`, `running`, ...
      count: Events delivered; `counts`: by type.
      first_ns, last_ns: Recorded times of the first and the last one, ns; 0: none.
      running_s: For how long it has run, pauses included.
      late_ms: How late events were: percentiles `p50`, `p95`, `p99`, `max`, and `mean`; zeros
        where nothing had a due time.
      drift_ms: How late the last one was.
      seeks: How often it was sent elsewhere; a digest compares only if it never was.
      digest: Of the ordered events, hex; see `digest`.
      output: Of what its namespace held in the end, hex; empty: not computed.
    """

    replay_id: str | None
    status: str
    count: int
    counts: dict[str, int]
    first_ns: int
    last_ns: int
    running_s: float
    late_ms: dict[str, float]
    drift_ms: float
    seeks: int
    digest: str
    output: str = ""

    @classmethod
    def of(
        cls, status: str, progress: Progress, replay_id: str | None = None, output: str = ""
    ) -> Self:
        """The report of what was done so far."""
        late = progress.lateness
        figures = {f"p{percent}": late.percentile_ms(percent) for percent in (50, 95, 99)}
        figures["max"] = late.most_ns / 1e6
        figures["mean"] = late.sum_ns / late.count / 1e6 if late.count else 0.0
        return cls(
            replay_id,
            status,
            progress.count,
            dict(sorted(progress.counts.items())),
            progress.first_ns,
            progress.last_ns,
            progress.running_ns / 1e9,
            figures,
            progress.late_ns / 1e6,
            progress.epoch,
            progress.digest.hex(),
            output,
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {name: getattr(self, name) for name in self.__slots__}

    def lines(self) -> list[str]:
        """For people."""
        by_type = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        shown = [f"{self.status}: {self.count:,} events" + (f" ({by_type})" if by_type else "")]
        if self.count:
            rate = self.count / self.running_s if self.running_s else 0.0
            recorded_s = (self.last_ns - self.first_ns) / 1e9
            shown += [
                f"range:  {moment(self.first_ns)} to {moment(self.last_ns)}, {recorded_s:,.3f} s",
                f"took:   {self.running_s:,.3f} s, {rate:,.0f} events/s",
            ]
        if any(self.late_ms.values()):
            figures = ", ".join(f"{name} {value:.3f}" for name, value in self.late_ms.items())
            shown.append(f"late:   {figures} ms; the last event {self.drift_ms:.3f} ms")
        if self.seeks:
            shown.append(f"seeks:  {self.seeks}")
        shown.append(f"digest: {self.digest}")
        if self.output:
            shown.append(f"output: {self.output}")
        return shown


def moment(time_ns: int) -> str:
    """A time for people, UTC."""
    return datetime.fromtimestamp(time_ns // 1000 / 1e6, UTC).isoformat(timespec="microseconds")
