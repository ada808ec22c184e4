"""`streamatiq ingest`: market data from files into the log."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import click

from ..settings import Settings
from ..sources import (
    FORMATS,
    ROOM_TIMEOUT_S,
    BadRowFile,
    Format,
    Ingest,
    Input,
    Pacer,
    Publish,
    progress_on,
    read_mapping,
)
from ._state import settings_from

__all__ = ["ingest"]

#: Exit code when there were bad rows.
BAD_ROWS = 3

EPILOG = """\b
Exit codes:
  0    every row was published, known before, or left out by the mapping
  1    a file or the mapping is wrong, too many bad rows, the server failed, or a log was full
       for too long
  2    wrong usage, or wrong settings
  3    done, but there were bad rows
  130  interrupted; what was read before is published
"""


class _Speed(click.ParamType[float]):
    name = "speed"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Infinity for `max`, else a number above 0."""
        if value == "max":
            return float("inf")
        try:
            speed = float(str(value))
        except ValueError:
            speed = 0.0
        if not 0 < speed < float("inf"):
            self.fail(f"{value!r} is neither 'max' nor a number above 0.", param, ctx)
        return speed


@click.command(epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-m",
    "--mapping",
    type=click.Path(path_type=Path),
    metavar="YAML",
    help="What the columns mean.  [default: they have the names of the events' fields]",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(FORMATS),
    help="Format of the files.  [default: by name]",
)
@click.option(
    "--speed",
    type=_Speed(),
    default="max",
    show_default=True,
    metavar="max|FACTOR",
    help="Full speed, or the recorded pace times a factor.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Read N rows at most.")
@click.option(
    "--max-bad",
    type=click.IntRange(min=0),
    metavar="N",
    help="End the run at one more bad row.  [default: no limit]",
)
@click.option(
    "--bad-rows",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write every bad row to FILE as JSON Lines.",
)
@click.option(
    "--room-timeout",
    type=click.FloatRange(min=0),
    default=ROOM_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="Give up when a full log had no room for so long.",
)
@click.option("--dry-run", is_flag=True, help="Only check the rows; no server is needed.")
@click.pass_context
def ingest(
    ctx: click.Context,
    files: tuple[Path, ...],
    mapping: Path | None,
    file_format: Format | None,
    speed: float,
    limit: int | None,
    max_bad: int | None,
    bad_rows: Path | None,
    room_timeout: float,
    dry_run: bool,
) -> int:
    """Publish market data from CSV, JSON Lines or Parquet FILES.

    Several files are merged by recorded time. Bad rows are counted, reported with their line
    numbers, and never published. Text files may be gzipped. Where a log is full, the rows wait
    until its handlers have made room.
    """
    stop = _Stop()
    with ExitStack() as stack:
        data = stack.enter_context(
            Input(files, read_mapping(mapping) if mapping else None, file_format=file_format)
        )
        keep = stack.enter_context(BadRowFile(bad_rows, files)) if bad_rows else None
        publish = None if dry_run else stack.enter_context(_publisher(settings_from(ctx)))
        stack.enter_context(stop.on_signals())
        display = progress_on(sys.stderr)
        run = Ingest(
            publish,
            pacer=None if speed == float("inf") else Pacer(speed),
            limit=limit,
            max_bad=max_bad,
            on_bad=keep.write if keep else None,
            on_progress=lambda report: display.show(report, data.fraction_read()),
            stopped=stop.asked,
            room_timeout_s=room_timeout,
            wait=stop.wait,
        )
        try:
            with display:
                run.run(data)
        finally:
            for line in run.report.lines():
                click.echo(line)
    if run.report.interrupted:
        return 128 + stop.signal_number
    return BAD_ROWS if run.report.bad else 0


@contextmanager
def _publisher(settings: Settings) -> Iterator[Publish]:
    """The broker's way to publish, which ends with the command."""
    # Not at the top: a dry run needs no broker.
    from ..workers import default_broker

    # The run waits for room itself, and can be stopped meanwhile; and no row is thrown away.
    bus = settings.event_bus.model_copy(update={"when_full": "reject", "shed": ()})
    broker = default_broker(settings.model_copy(update={"event_bus": bus}))
    try:
        yield broker.logs.publish_many
    finally:
        broker.close()


class _Stop:
    """Turns the first SIGINT or SIGTERM into a flag; a second one interrupts at once."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.asked = self._event.is_set
        self.wait = self._event.wait
        #: Of the signal that came.
        self.signal_number = int(signal.SIGINT)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handles the signals inside the block; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self._take) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self._event.is_set():
            raise KeyboardInterrupt
        self.signal_number = number
        self._event.set()
