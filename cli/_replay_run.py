"""Runs a replay in the foreground: a progress bar, and signals that leave it resumable."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from ..scheduler.replay import Record, Replay, ReplayReport

__all__ = ["ProgressShown", "interrupted_by_signals"]

#: Steps of the bar.
_STEPS = 10_000
#: Between two lines where there is no terminal, seconds.
LINE_EVERY_S = 5.0


@contextmanager
def interrupted_by_signals(replay: Replay) -> Iterator[list[int]]:
    """The first SIGINT or SIGTERM interrupts the replay; a second one raises KeyboardInterrupt.

    Yields:
      The signals that came. Only the main thread can handle them.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def take(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt
        # In a thread: the handler may have interrupted the one that holds the replay's lock.
        threading.Thread(target=replay.interrupt, daemon=True).start()

    before = {one: signal.signal(one, take) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class ProgressShown:
    """Shows how far a replay has come: a bar on a terminal, else a line every few seconds.

    Parameters:
      record: Reads the replay's record as it was saved last.
    """

    def __init__(
        self,
        stream: TextIO,
        record: Callable[[], Record],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._record = record
        self._clock_s = clock_s
        self._next_s = clock_s() + LINE_EVERY_S
        self._bar = (
            Progress(
                TextColumn("replay"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[text]}"),
                console=Console(file=stream),
                transient=True,
            )
            if stream.isatty()
            else None
        )
        self._task = self._bar.add_task("replay", total=_STEPS, text="") if self._bar else None

    def show(self, report: ReplayReport) -> None:
        """Shows what was done; called about twice a second."""
        now_s = self._clock_s()
        if self._bar is None and now_s < self._next_s:
            return
        record = self._record()
        left = "" if record.eta_s is None else f", about {record.eta_s:,.0f} s left"
        late = f", {report.drift_ms:,.0f} ms late" if report.drift_ms >= 1 else ""
        paused = ", paused" if record.standing.value == "paused" else ""
        text = f"{report.count:,} events{paused}{late}{left}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=record.fraction * _STEPS, text=text)
            return
        self._next_s = now_s + LINE_EVERY_S
        print(f"replay: {record.fraction:.0%}, {text}", file=self._stream, flush=True)

    def __enter__(self) -> ProgressShown:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
