"""`streamatiq checkpoint`: take checkpoints, look at them, delete them, go back to one.

None of the handlers' code is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import click

from ..broker import RedisStreamsBroker
from ..broker.wording import counted
from ..scheduler.checkpoints import Checkpoint, CheckpointInfo, Checkpoints, PrunePolicy, Restored
from .halt import JSON, broker_of

__all__ = ["checkpoint"]

#: Exit codes of `verify`, and of `diff`.
BAD = 1
DIFFERENT = 1

EPILOG = """\b
Exit codes:
  0  done
  1  failed; verify: it is not good; diff: they differ
  2  wrong usage, or wrong settings

ID may be `latest`. Times are UTC.
"""


@contextmanager
def _checkpoints(ctx: click.Context) -> Iterator[tuple[RedisStreamsBroker, Checkpoints]]:
    with broker_of(ctx) as broker:
        yield broker, Checkpoints(broker)


@click.group(epilog=EPILOG)
def checkpoint() -> None:
    """Take checkpoints, look at them, delete them, go back to one."""


@checkpoint.command("create")
@click.option("--reason", required=True, metavar="TEXT", help="Why; whoever finds it must know.")
@JSON
@click.pass_context
def _create(ctx: click.Context, reason: str, as_json: bool) -> None:
    """Take a checkpoint now."""
    if not reason.strip():
        raise click.BadParameter("say why, in words.", param_hint="--reason")
    with _checkpoints(ctx) as (_, checkpoints):
        taken = checkpoints.create(reason)
    click.echo(_info_json(taken) if as_json else f"Taken: {_line(taken)}")


@checkpoint.command("list")
@JSON
@click.pass_context
def _list(ctx: click.Context, as_json: bool) -> None:
    """List the checkpoints, oldest first."""
    with _checkpoints(ctx) as (_, checkpoints):
        found = checkpoints.list()
    for one in found:
        click.echo(_info_json(one) if as_json else _line(one))
    if not (found or as_json):
        click.echo("There is no checkpoint.")


@checkpoint.command("show")
@click.argument("checkpoint_id", metavar="ID", default="latest")
@JSON
@click.pass_context
def _show(ctx: click.Context, checkpoint_id: str, as_json: bool) -> None:
    """Show one checkpoint: where each subscription stood."""
    with _checkpoints(ctx) as (_, checkpoints):
        found = checkpoints.show(checkpoint_id)
    if as_json:
        click.echo(found.model_dump_json())
        return
    for line in _lines(found):
        click.echo(line)


@checkpoint.command("diff")
@click.argument("first", metavar="ID")
@click.argument("second", metavar="ID", default="latest")
@JSON
@click.pass_context
def _diff(ctx: click.Context, first: str, second: str, as_json: bool) -> int:
    """Show what differs between two checkpoints; the second one is by default the latest."""
    with _checkpoints(ctx) as (_, checkpoints):
        found = checkpoints.diff(first, second)
    for one in found:
        click.echo(json.dumps(asdict(one), ensure_ascii=False) if as_json else str(one))
    if not (found or as_json):
        click.echo("Nothing differs.")
    return DIFFERENT if found else 0


@checkpoint.command("verify")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@JSON
@click.pass_context
def _verify(ctx: click.Context, ids: tuple[str, ...], as_json: bool) -> int:
    """Tell whether checkpoints are what was stored, and the logs hold what they need.

    Without an ID: all of them.
    """
    with _checkpoints(ctx) as (_, checkpoints):
        chosen = ids or tuple(one.id for one in checkpoints.list())
        found = [checkpoints.verify(one) for one in chosen]
    for one in found:
        if as_json:
            click.echo(json.dumps({**asdict(one), "good": one.is_good}, ensure_ascii=False))
            continue
        click.echo(f"{one.id}: {'good' if one.is_good else 'cannot be restored'}")
        for problem in one.problems:
            click.echo(f"  {problem}")
    if not (found or as_json):
        click.echo("There is no checkpoint.")
    return 0 if all(one.is_good for one in found) else BAD


@checkpoint.command("prune")
@click.option("--keep-last", type=click.IntRange(min=0), metavar="N", help="Keep the newest N.")
@click.option("--keep-hourly", type=click.IntRange(min=0), metavar="N", help="One of N hours each.")
@click.option("--keep-daily", type=click.IntRange(min=0), metavar="N", help="One of N days each.")
@click.option("--dry-run", is_flag=True, help="Only tell which would go.")
@JSON
@click.pass_context
def _prune(
    ctx: click.Context,
    keep_last: int | None,
    keep_hourly: int | None,
    keep_daily: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete checkpoints. The newest one that can be restored always stays.

    What is not said is as the settings' section `checkpoints` has it.
    """
    with _checkpoints(ctx) as (broker, checkpoints):
        wanted = broker.settings.checkpoints
        policy = PrunePolicy(
            wanted.keep_last if keep_last is None else keep_last,
            wanted.keep_hourly if keep_hourly is None else keep_hourly,
            wanted.keep_daily if keep_daily is None else keep_daily,
        )
        gone = checkpoints.prune(policy, dry_run=dry_run)
    for one in gone:
        click.echo(json.dumps({"id": one, "dry_run": dry_run}) if as_json else one)
    if not as_json:
        would = "would go" if dry_run else "gone"
        click.echo(f"{counted(len(gone), 'checkpoint')} {would}.")


@checkpoint.command("restore")
@click.argument("checkpoint_id", metavar="ID")
@click.argument("subscription", required=False)
@click.option("--all", "everything", is_flag=True, help="All subscriptions that it holds.")
@click.option("--as", "as_name", metavar="NAME", help="Make a new subscription of this name.")
@click.option("--dry-run", is_flag=True, help="Only tell what would run.")
@click.option(
    "--free-keys", is_flag=True, help="Let handlers run again for business keys that are done."
)
@JSON
@click.pass_context
def _restore(
    ctx: click.Context,
    checkpoint_id: str,
    subscription: str | None,
    everything: bool,
    as_name: str | None,
    dry_run: bool,
    free_keys: bool,
    as_json: bool,
) -> None:
    """Put SUBSCRIPTION, or all with --all, back to where it stood. Stop its workers before.

    What it has settled since runs again. Business keys that are done stay done.
    """
    if everything == (subscription is not None):
        raise click.UsageError("What is meant? Name a SUBSCRIPTION, or say --all.")
    with _checkpoints(ctx) as (_, checkpoints):
        found = checkpoints.restore(
            checkpoint_id, subscription, as_name=as_name, dry_run=dry_run, free_keys=free_keys
        )
    for one in found:
        if as_json:
            fields = {**asdict(one), "to_run": one.to_run, "again": one.again}
            click.echo(json.dumps(fields, ensure_ascii=False))
            continue
        for line in _restored(one):
            click.echo(line)
    if not (found or as_json):
        click.echo("The checkpoint holds no subscription.")


def _info_json(info: CheckpointInfo) -> str:
    return info.model_dump_json()


def _line(info: CheckpointInfo) -> str:
    states = f", {counted(info.states, 'state')}" if info.states else ""
    return (
        f"{info.id}  {counted(info.subscriptions, 'subscription')} on "
        f"{counted(info.streams, 'stream')}{states}, by {info.by}: {info.reason}"
    )


def _lines(found: Checkpoint) -> Iterator[str]:
    yield f"{found.id}, taken {found.at:%Y-%m-%d %H:%M:%S} UTC by {found.by}: {found.reason}"
    if found.parent:
        yield f"after {found.parent}"
    for name, streams in found.subscriptions.items():
        yield f"{name}:"
        for place, position in sorted(streams.items()):
            pending = f", {len(position.pending)} pending" if position.pending else ""
            if not position.exact:
                pending = f", begins behind {position.safe}: too many were pending"
            states = "".join(
                f", state {state} ({len(value) - 8:,} bytes)"
                for state, value in position.state_bytes().items()
            )
            yield f"  {place} at {position.last}{pending}{states}"
    for what, named in (("halted", found.halts), ("breaker", found.breakers)):
        for name, fields in named.items():
            yield f"{what}: {name}: {_text(fields)}"


def _text(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in fields.items() if value != "")


def _restored(one: Restored) -> Iterator[str]:
    name = one.name if one.name == one.subscription else f"{one.name} (of {one.subscription})"
    verb = "Restored" if one.done else "Would restore"
    yield (f"{verb} {name}: {counted(one.to_run, 'event')} to run, {one.again:,} of them again.")
    for stream in one.streams:
        if stream.to_run or stream.states or stream.letters:
            parts = [f"behind {stream.behind}", f"{stream.to_run:,} to run"]
            parts += [f"{stream.pending:,} of them pending then"] if stream.pending else []
            parts += [f"{counted(stream.letters, 'dead letter')} go"] if stream.letters else []
            parts += [f"state {', '.join(stream.states)}"] if stream.states else []
            yield f"  {stream.stream}: {', '.join(parts)}"
    for warning in one.warnings:
        yield f"  Warning: {warning}"
