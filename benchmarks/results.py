"""Samples of one run, and the JSON file that keeps them.

A *sample* is one measure of one system in one round. The file keeps every sample, so that a table
can be made again, or differently, from an old run.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["FORMAT", "Run", "Sample", "load_run", "save_run"]

#: Version of the JSON file's layout.
FORMAT = 2


@dataclass(frozen=True, slots=True)
class Sample:
    """One measure of one system in one round.

    Attributes:
        round: from 0.
        system: its name.
        measure: name of the measure.
        case: variant of the measure, such as `2 processes`.
        values: figures by metric name; the unit is part of the name. None: cannot be had here.
        sent, handled: messages sent, and of these handled at least once (None: not handled by
            design, as in `enqueue`).
        duplicates: messages handled more than once, where that must not be.
        settled: whether the system itself had nothing left at the end (None: not asked).
        at_least: names of figures that were given up at this value: the real ones are larger.
        error: why there are no values, if there are none.
    """

    round: int
    system: str
    measure: str
    case: str
    values: dict[str, float | None] = field(default_factory=dict)
    sent: int = 0
    handled: int | None = None
    duplicates: int = 0
    settled: bool | None = None
    at_least: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def lost(self) -> int:
        """Messages that were sent and never handled."""
        return 0 if self.handled is None else self.sent - self.handled


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the bench.

    Attributes:
        machine: what it ran on: server, versions, cores.
        settings: the options it ran with.
        unavailable: systems that could not run, with the reason.
        samples: all samples, in the order they were taken.
    """

    machine: dict[str, Any]
    settings: dict[str, Any]
    unavailable: dict[str, str]
    samples: list[Sample]

    @property
    def failures(self) -> list[str]:
        """One line for each thing that did not go as it must."""
        lines = [f"{name} cannot run: {reason}" for name, reason in self.unavailable.items()]
        for s in self.samples:
            where = f"{s.system}, {s.measure} {s.case}, round {s.round + 1}"
            if s.error is not None:
                lines.append(f"{where}: {s.error}")
            elif s.lost:
                lines.append(f"{where}: {s.lost} of {s.sent} messages lost")
            elif s.settled is False:
                lines.append(f"{where}: all handled, but not all settled")
            if s.duplicates:
                lines.append(f"{where}: {s.duplicates} messages handled more than once")
        return lines


def save_run(run: Run, path: Path) -> None:
    """Write `run` to `path` as JSON, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": FORMAT, **asdict(run)}, indent=1) + "\n")


def load_run(path: Path) -> Run:
    """Read a run that `save_run` wrote.

    Raises:
        ValueError: the file has another format.
    """
    data = json.loads(path.read_text())
    if data.pop("format", None) != FORMAT:
        raise ValueError(f"{path} is not a result file of format {FORMAT}; run the bench again")
    samples = [Sample(**sample) for sample in data.pop("samples")]
    return Run(samples=samples, **data)
