"""What the demo shows while it runs: a live table on a terminal, plain lines elsewhere.

`Window` turns the meter's running totals into rates and percentiles of the last seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..broker.histogram import percentile_us
from .meter import Reading

__all__ = ["Screen", "Window", "milliseconds", "pipeline_tables", "plain_table"]

#: Seconds that rates and percentiles cover.
WINDOW_S = 3.0
#: Columns of a terminal from which on there is room for wider gaps.
WIDE = 100
#: Seconds between two plain lines.
LINE_EVERY_S = 2.0


class Window:
    """The last readings, up to `WINDOW_S` of them and at least two."""

    def __init__(self, first: Reading) -> None:
        self._readings = deque([first])

    def add(self, reading: Reading) -> None:
        """Adds the next reading."""
        self._readings.append(reading)
        while len(self._readings) > 2 and reading.at_s - self._readings[1].at_s >= WINDOW_S:
            self._readings.popleft()

    @property
    def last(self) -> Reading:
        return self._readings[-1]

    def published_rate(self, event_type: str) -> float:
        """Events a second in a log."""
        first, last = self._readings[0], self.last
        return self._rate(last.published[event_type] - first.published.get(event_type, 0))

    def handled_rate(self, name: str) -> float:
        """Events a second that a subscription handled."""
        before = self._readings[0].subscriptions.get(name)
        handled = self.last.subscriptions[name].handled
        return self._rate(handled - (before.handled if before else 0))

    def percentile_us(self, name: str, percent: float) -> float | None:
        """Latency from publish to handler start; None where nothing was handled."""
        before = self._readings[0].subscriptions.get(name)
        was: Mapping[int, int] = before.latency if before else {}
        latency = self.last.subscriptions[name].latency
        recent = {at: count - was.get(at, 0) for at, count in latency.items()}
        return percentile_us({at: count for at, count in recent.items() if count}, percent)

    def _rate(self, count: int) -> float:
        passed_s = self.last.at_s - self._readings[0].at_s
        return count / passed_s if passed_s > 0 else 0.0


def milliseconds(latency_us: float | None) -> str:
    """A latency for people."""
    if latency_us is None:
        return "-"
    ms = latency_us / 1000
    return f"{ms:.2f} ms" if ms < 10 else f"{ms:,.0f} ms"


def pipeline_tables(window: Window, title: str, width: int) -> RenderableType:
    """The live view: what is published, and how the subscriptions keep up.

    Parameters:
      window: The last readings.
      title: Stands above it.
      width: Columns of the terminal.
    """
    logs = plain_table(width, "Log", "events", "per s")
    for event_type, count in window.last.published.items():
        logs.add_row(event_type, f"{count:,}", f"{window.published_rate(event_type):,.0f}")
    subscriptions = plain_table(
        width,
        "Subscription",
        *("handled", "per s", "lag", "parked", "retried", "dead", "p50", "p99"),
    )
    for name, one in window.last.subscriptions.items():
        subscriptions.add_row(
            name,
            f"{one.handled:,}",
            f"{window.handled_rate(name):,.0f}",
            f"{one.lag:,}",
            f"{one.parked:,}",
            f"{one.retried:,}",
            Text(f"{one.dead:,}", style="bold red" if one.dead else ""),
            milliseconds(window.percentile_us(name, 50)),
            milliseconds(window.percentile_us(name, 99)),
        )
    return Group(Text(title, style="bold"), logs, subscriptions)


def plain_table(width: int, first: str, *others: str) -> Table:
    """A table without lines: the first column is text, the others are figures.

    Parameters:
      width: Columns of the terminal.
    """
    gap, least = (3, 6) if width >= WIDE else (1, 4)
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold cyan")
    table.add_column(f"\n{first}", min_width=18, no_wrap=True)
    for name in others:
        table.add_column(f"\n{name}", justify="right", min_width=least, no_wrap=True)
    return table


class Screen:
    """Shows readings. As a context manager it gives the terminal back at the end.

    Parameters:
      console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._window: Window | None = None
        self._next_line_s = 0.0
        self._closing = ExitStack()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = self._closing.enter_context(
                Live(console=self.console, auto_refresh=False, transient=True)
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    def show(self, reading: Reading, title: str) -> None:
        """Shows the next reading.

        Parameters:
          title: What the demo does at the moment.
        """
        if self._window is None:
            self._window = Window(reading)
        else:
            self._window.add(reading)
        if self._live is not None:
            tables = pipeline_tables(self._window, title, self.console.width)
            self._live.update(tables, refresh=True)
        elif reading.at_s >= self._next_line_s:
            self._next_line_s = reading.at_s + LINE_EVERY_S
            self.console.print(self._line(self._window, title), highlight=False, soft_wrap=True)

    @staticmethod
    def _line(window: Window, title: str) -> str:
        published = ", ".join(
            f"{event_type} {count:,}" for event_type, count in window.last.published.items()
        )
        latencies = [
            milliseconds(window.percentile_us(name, 99)) for name in window.last.subscriptions
        ]
        return (
            f"{title}: {published}; lag {window.last.lag:,}; "
            f"p99 by subscription {', '.join(latencies)}"
        )
