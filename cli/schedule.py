"""`streamatiq schedule`: define schedules, and look at them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..broker import RedisStreamsBroker
from ..scheduler.definition import Schedule
from ..scheduler.schedule_file import read_schedule_file
from ..scheduler.schedules import Schedules
from ..workers import default_broker, load_handlers
from ._schedule_text import (
    as_json,
    difference,
    history_json,
    history_lines,
    list_lines,
    show_lines,
)
from ._server import refuse_new
from ._state import settings_from

__all__ = ["schedule"]

#: Exit code of `apply --dry-run` where something would change, and of `apply` that was declined.
DIFFERENT = 1

EPILOG = """\b
Exit codes:
  0    done
  1    failed; there is no such schedule; or apply --dry-run found a difference
  2    wrong usage, wrong settings, or a wrong schedule: nothing was changed
  130  interrupted

Who changes what is recorded, and wakes the scheduler process at once. Times are UTC.
"""

JSON = click.option("--json", "as_json_", is_flag=True, help="Print one JSON object a line.")


@contextmanager
def _schedules(ctx: click.Context, *, with_handlers: bool = False) -> Iterator[Schedules]:
    """What the commands work on; with the actors, event types and kinds of the application."""
    settings = settings_from(ctx)
    refuse_new(settings.redis.url)
    if with_handlers and settings.workers.handlers:
        default_broker(settings)
        load_handlers(settings.workers.handlers)
        broker = default_broker(settings)  # the application may have set one of its own meanwhile
    else:
        broker = RedisStreamsBroker(settings=settings, middleware=[])
    try:
        yield Schedules(broker)
    finally:
        broker.close()


@click.group(epilog=EPILOG)
def schedule() -> None:
    """Define schedules, and look at them. `streamatiq scheduler` runs them."""


class _Parameter(click.ParamType[tuple[str, Any]]):
    name = "parameter"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """NAME=VALUE; the value is JSON if it can be read as that, else text."""
        name, separator, text = str(value).partition("=")
        if not name or not separator:
            self.fail(f"{value!r} is no parameter; write NAME=VALUE.", param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:
            return name, text


@schedule.command("add")
@click.argument("name")
@click.option("--cron", metavar="FIELDS", help="Five fields, as in '30 9 * * mon-fri', or @daily.")
@click.option("--every", metavar="TIME", help="An interval: 90s, 15m, 1h30m, 2d.")
@click.option("--at", metavar="TIME", help="Once: 2026-12-24T18:00.")
@click.option("--zone", metavar="NAME", help="Time zone, as in Europe/Berlin.  [default: UTC]")
@click.option("--start", metavar="TIME", help="Not before.")
@click.option("--end", metavar="TIME", help="Not after.")
@click.option("--kind", required=True, help="What a run does: publish, send, requeue, ...")
@click.option(
    "-p",
    "--parameter",
    "parameters",
    multiple=True,
    type=_Parameter(),
    metavar="NAME=VALUE",
    help="What the kind needs to know; VALUE is JSON, or text.",
)
@click.option("--missed", type=click.Choice(["skip", "once", "each"]), help="[default: skip]")
@click.option("--deadline", metavar="TIME", help="How late a run may begin.")
@click.option("--jitter", metavar="TIME", help="By how much a run may begin later.")
@click.option("--max-running", type=int, metavar="N", help="Runs at a time.  [default: 1]")
@click.option("--description", metavar="TEXT")
@click.option("--replace", is_flag=True, help="Replace a schedule of this name.")
@click.pass_context
def _add(ctx: click.Context, /, name: str, replace: bool, **fields: Any) -> None:
    """Define a schedule."""
    given = {field: value for field, value in fields.items() if value is not None}
    given["parameters"] = dict(given["parameters"])
    made = Schedule(name=name, **given)
    with _schedules(ctx, with_handlers=True) as schedules:
        (outcome,) = schedules.add(made, replace=replace)
        status = schedules.get(name)
    click.echo(f"{name}: {outcome}.")
    if status.next_fire is not None:
        click.echo(f"Next: {status.next_fire:%Y-%m-%d %H:%M:%S} UTC.")


@schedule.command("list")
@JSON
@click.pass_context
def _list(ctx: click.Context, as_json_: bool) -> None:
    """List schedules: when each fires next, and how its last run ended."""
    with _schedules(ctx) as schedules:
        found = schedules.all()
    for line in map(as_json, found) if as_json_ else list_lines(found):
        click.echo(line)


@schedule.command("show")
@click.argument("name")
@JSON
@click.pass_context
def _show(ctx: click.Context, name: str, as_json_: bool) -> None:
    """Show all that is known of one schedule."""
    with _schedules(ctx) as schedules:
        status = schedules.get(name)
    for line in [as_json(status)] if as_json_ else show_lines(status):
        click.echo(line)


@schedule.command("history")
@click.argument("name")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, metavar="N")
@JSON
@click.pass_context
def _history(ctx: click.Context, name: str, limit: int, as_json_: bool) -> None:
    """Show how the last runs ended, and what was missed; the newest first."""
    with _schedules(ctx) as schedules:
        entries = schedules.history(name, limit=limit)
    for line in map(history_json, entries) if as_json_ else history_lines(entries):
        click.echo(line)


@schedule.command("pause")
@click.argument("name")
@click.pass_context
def _pause(ctx: click.Context, name: str) -> None:
    """Stop a schedule from firing. What runs goes on."""
    with _schedules(ctx) as schedules:
        done = schedules.pause(name)
    click.echo(f"{name}: {'paused' if done else 'was paused already'}.")


@schedule.command("resume")
@click.argument("name")
@click.pass_context
def _resume(ctx: click.Context, name: str) -> None:
    """Let a schedule fire again. What it would have done meanwhile is not missed."""
    with _schedules(ctx) as schedules:
        done = schedules.resume(name)
    click.echo(f"{name}: {'goes on' if done else 'was not paused'}.")


@schedule.command("run")
@click.argument("name")
@click.pass_context
def _run(ctx: click.Context, name: str) -> None:
    """Ask for a run now, paused or not."""
    with _schedules(ctx) as schedules:
        done = schedules.run(name)
    click.echo(f"{name}: {'asked for' if done else 'was asked for already, and has not begun'}.")


@schedule.command("remove")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.pass_context
def _remove(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Remove schedules, and their history. A run that has begun goes on."""
    with _schedules(ctx) as schedules:
        schedules.remove(*names)
    click.echo(f"Removed: {', '.join(names)}.")


@schedule.command("apply")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only show the difference; exit code 1 if there is.")
@click.option("--prune", is_flag=True, help="Remove schedules that are not in FILE.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def _apply(ctx: click.Context, file: Path, dry_run: bool, prune: bool, yes: bool) -> int:
    """Make the schedules those of a YAML FILE, after showing the difference.

    All of it is done, or nothing. Applied again, it changes nothing.
    """
    wanted = read_schedule_file(file)
    with _schedules(ctx, with_handlers=True) as schedules:
        changes = [one for one in schedules.plan(wanted, prune=prune) if one.action != "keep"]
        for line in difference(changes, len(wanted)):
            click.echo(line)
        if dry_run:
            return DIFFERENT if changes else 0
        if not changes:
            return 0
        if not yes:
            if not sys.stdin.isatty():
                raise click.UsageError("Nobody can be asked here: give --yes, or --dry-run.")
            if not click.confirm("Make these changes?", err=True):
                return DIFFERENT
        schedules.make(changes)
    click.echo("Done.")
    return 0
