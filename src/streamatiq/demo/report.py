"""The closing report: what the server holds when the run is over, and whether that is right."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..broker.histogram import percentile_us
from ..events import EventType
from .meter import Reading
from .screen import milliseconds, plain_table
from .verify import Accounts

__all__ = ["Report", "SourceReport"]

#: Problems of orders and fills that are shown.
SHOWN_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What the source did.

    Attributes:
      published: Events.
      elapsed_s: In that time.
      asked_rate: Events a second that it was to publish.
      kept_up: Whether it did, for as long as it ran.
    """

    published: int
    elapsed_s: float
    asked_rate: float
    kept_up: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What a run came to.

    Attributes:
      accounts: From the logs and done marks, event by event.
      reading: From groups and audit records.
      source: What the source did.
      total_s: From the source's start until the last event was settled, or the run was stopped.
      interrupted: Whether the run was stopped before its end.
    """

    accounts: Accounts
    reading: Reading
    source: SourceReport
    total_s: float
    interrupted: bool

    @property
    def problems(self) -> list[str]:
        """What is wrong, one line each; nothing left over is wrong after an interruption."""
        accounts = self.accounts
        book = accounts.book
        problems = []
        if accounts.lost:
            problems.append(f"events lost: {accounts.lost:,}")
        if accounts.dead:
            problems.append(f"events in the dead letters: {accounts.dead:,}")
        problems += [f"orders and fills disagree: {one}" for one in book.problems[:SHOWN_PROBLEMS]]
        if len(book.problems) > SHOWN_PROBLEMS:
            problems.append(f"and {len(book.problems) - SHOWN_PROBLEMS:,} more of these")
        differing = {
            event_type
            for event_type, count in self.reading.published.items()
            if count != accounts.events[event_type]
        }
        problems += [f"the length of log {one} is not its number of events" for one in differing]
        if accounts.events[EventType.MARKET_DATA] != self.source.published:
            problems.append(
                f"the source published {self.source.published:,} events, and "
                f"{accounts.events[EventType.MARKET_DATA]:,} are in their log"
            )
        if not self.interrupted:
            if accounts.left:
                problems.append(f"events not handled in time: {accounts.left:,}")
            if book.filled < len(book.orders):
                problems.append(f"orders not filled: {len(book.orders) - book.filled:,}")
        return problems

    def print(self, console: Console) -> None:
        """Prints it."""
        console.print(Text("\nClosing report, read back from the server", style="bold"))
        console.print(self._logs(console.width), self._subscriptions(console.width))
        for line in self._lines():
            console.print(line, highlight=False, soft_wrap=True)

    def _logs(self, width: int) -> Table:
        table = plain_table(width, "Log", "events")
        for event_type in self.reading.published:
            table.add_row(event_type, f"{self.accounts.events[event_type]:,}")
        return table

    def _subscriptions(self, width: int) -> Table:
        table = plain_table(
            width,
            "Subscription",
            *("handled", "retried", "duplicates", "dead", "left", "lost", "p50", "p99"),
        )
        for name, account in self.accounts.subscriptions.items():
            read = self.reading.subscriptions[name]
            figures = (
                account.handled,
                read.retried,
                self.duplicates(name),
                account.dead,
                account.left,
                account.lost,
            )
            table.add_row(
                name,
                *(f"{figure:,}" for figure in figures),
                milliseconds(percentile_us(read.latency, 50)),
                milliseconds(percentile_us(read.latency, 99)),
            )
        return table

    def duplicates(self, name: str) -> int:
        """How often a subscription's handler succeeded for an event that was handled already."""
        ran = self.reading.subscriptions[name].handled
        return max(0, ran - self.accounts.subscriptions[name].handled)

    def _lines(self) -> list[Text]:
        accounts, source, book = self.accounts, self.source, self.accounts.book
        events = sum(accounts.events.values())
        settled = sum(one.handled for one in accounts.subscriptions.values())
        lines = [
            Text(""),
            Text("p50 and p99 are from publish to the start of the handler, first attempts only."),
        ]
        if self.reading.audit_missed:
            lines.append(
                Text(
                    f"{self.reading.audit_missed:,} audit records were dropped before they could "
                    "be read: retried, duplicates and latencies leave those out.",
                    style="yellow",
                )
            )
        lines += [
            Text(
                f"Orders: {len(book.orders):,}, of which {book.filled:,} are filled exactly, by "
                f"{book.fills:,} fills; quantity ordered {_plain(book.ordered_quantity)}, filled "
                f"{_plain(book.filled_quantity)}."
            ),
            self._source_line(source),
            Text(
                f"In all: {events:,} events in {self.total_s:.1f} s, handled {settled:,} times, "
                f"{settled / self.total_s if self.total_s else 0:,.0f} a second."
            ),
        ]
        if self.interrupted:
            lines.append(
                Text(
                    f"Stopped before its end: {accounts.left:,} events are left to be handled.",
                    style="yellow",
                )
            )
        if self.problems:
            lines += [Text(f"Wrong: {problem}.", style="bold red") for problem in self.problems]
        else:
            lines.append(Text("Nothing is lost; orders and fills agree.", style="bold green"))
        return lines

    def _source_line(self, source: SourceReport) -> Text:
        rate = source.published / source.elapsed_s if source.elapsed_s else 0.0
        said = (
            f"Source: {source.published:,} events in {source.elapsed_s:.1f} s, {rate:,.0f} a second"
        )
        if source.kept_up:
            return Text(f"{said}, as asked.")
        if self.interrupted:
            return Text(f"{said}.")
        return Text(
            f"{said}: it could not keep the {source.asked_rate:,.0f} asked.", style="yellow"
        )


def _plain(quantity: Decimal) -> str:
    """Without zeros at its end."""
    return f"{quantity.normalize():,f}"
