"""Shows an ingest run while it goes on: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from .report import IngestReport

__all__ = ["BarProgress", "LineProgress", "ProgressDisplay", "progress_on"]

#: Between two lines, in seconds.
LINE_EVERY_S: Final = 5.0
#: Steps of the bar.
_STEPS: Final = 10_000


class ProgressDisplay(Protocol):
    """A context manager that shows reports."""

    def show(self, report: IngestReport, fraction: float) -> None:
        """Shows how far a run has come.

        Parameters:
          report: Its counts.
          fraction: How much of the input was read, from 0 to 1.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class BarProgress:
    """A bar on a terminal; it vanishes at the end, when the report takes its place."""

    def __init__(self, stream: TextIO) -> None:
        self._progress = Progress(
            TextColumn("ingest"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=Console(file=stream),
            transient=True,
        )
        self._task = self._progress.add_task("ingest", total=_STEPS, text="")

    def show(self, report: IngestReport, fraction: float) -> None:
        """As `ProgressDisplay.show`."""
        self._progress.update(self._task, completed=fraction * _STEPS, text=_text(report))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._progress.stop()


class LineProgress:
    """A line every few seconds, for logs."""

    def __init__(self, stream: TextIO, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock_s = clock_s
        self._next_s = clock_s() + LINE_EVERY_S

    def show(self, report: IngestReport, fraction: float) -> None:
        """As `ProgressDisplay.show`."""
        now_s = self._clock_s()
        if now_s >= self._next_s:
            self._next_s = now_s + LINE_EVERY_S
            print(f"ingest: {fraction:.0%}, {_text(report)}", file=self._stream, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


def progress_on(stream: TextIO) -> ProgressDisplay:
    """The display that suits a stream."""
    return BarProgress(stream) if stream.isatty() else LineProgress(stream)


def _text(report: IngestReport) -> str:
    rate = report.rows / report.seconds if report.seconds else 0.0
    bad = f", {report.bad:,} bad" if report.bad else ""
    return f"{report.rows:,} rows{bad}, {rate:,.0f}/s"
