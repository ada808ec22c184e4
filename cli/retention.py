"""`streamatiq retention`: trim logs now, or see what holds them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

import click

from ..broker.wording import counted
from ..scheduler.retention import Retention
from ..scheduler.retention_report import RetentionReport
from .halt import JSON, broker_of

__all__ = ["retention"]

EPILOG = """\b
Exit codes:
  0  done
  1  failed: the server does not answer, or refuses
  2  wrong usage, or wrong settings

A log is trimmed to redis.stream_max_length entries, and never beyond what a subscription, a
checkpoint or a replay needs. What went is audited.
"""


@click.group(epilog=EPILOG)
def retention() -> None:
    """Trim logs now, or see what holds them."""


@retention.command("run")
@click.option("--dry-run", is_flag=True, help="As show.")
@JSON
@click.pass_context
def _run(ctx: click.Context, dry_run: bool, as_json: bool) -> None:
    """Take out of the logs what nobody needs."""
    _do(ctx, dry_run, as_json)


@retention.command("show")
@JSON
@click.pass_context
def _show(ctx: click.Context, as_json: bool) -> None:
    """Show what is more than aimed at, who needs it, and which subscriptions nobody reads."""
    _do(ctx, True, as_json)


def _do(ctx: click.Context, dry_run: bool, as_json: bool) -> None:
    with broker_of(ctx) as broker:
        chosen = Retention(broker)
        report = chosen.show() if dry_run else chosen.run()
    if as_json:
        for stream in report.streams:
            click.echo(json.dumps({"what": "stream", **asdict(stream)}, ensure_ascii=False))
        for unread in report.unread:
            click.echo(json.dumps({"what": "unread", **asdict(unread)}, ensure_ascii=False))
        return
    for line in _lines(report, dry_run=dry_run):
        click.echo(line)


def _lines(report: RetentionReport, *, dry_run: bool) -> Iterator[str]:
    for one in report.streams:
        if one.trimmed or one.surplus:
            went = f", {one.trimmed:,} trimmed" if one.trimmed else ""
            more = f", {one.surplus:,} more than aimed at" if one.surplus else ""
            held = f", needed by {one.held_by} from {one.lowest} on" if one.held_by else ""
            yield f"{one.stream}: {counted(one.length, 'entry', 'entries')}{went}{more}{held}"
    for unread in report.unread:
        fate = ""
        if unread.given_up:
            fate = ": would be given up" if dry_run else ": given up"
        yield (
            f"{unread.subscription}: nobody reads it, for {unread.silent_s:,.0f} s at least; "
            f"{counted(unread.waiting, 'event')} waiting{fate}"
        )
    for note in report.notes:
        yield f"Note: {note}"
    if not dry_run:
        yield f"{counted(report.trimmed, 'entry', 'entries')} trimmed."
    elif not any(one.surplus for one in report.streams):
        yield "No log has more entries than aimed at."
