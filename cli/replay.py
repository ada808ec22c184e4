"""`streamatiq replay`: ranges of logs again, at a chosen speed, into a chosen target."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from ..broker import RedisStreamsBroker
from ..events import registered_types
from ..scheduler.replay import (
    Replay,
    WorkerOptions,
    define_replay,
    diff_replays,
    replay_output,
    resume_replay,
    store_of,
)
from ..scheduler.replay import replay as make_replay
from ..scheduler.replay.access import links_of
from ..scheduler.replay.spec import ReplaySpec
from ..workers import load_handlers
from ._replay_run import ProgressShown, interrupted_by_signals
from ._replay_text import diff_json, diff_lines, list_lines, record_json, show_lines
from ._server import refuse_new
from ._state import settings_from

__all__ = ["replay"]

EPILOG = """\b
Exit codes:
  0    done
  1    failed; or `diff` found a difference
  2    wrong usage, or wrong settings
  130  interrupted; `streamatiq replay resume ID` goes on

Times are UTC unless they say otherwise.
"""

JSON = click.option("--json", "as_json_", is_flag=True, help="Print JSON.")


class _Moment(click.ParamType[datetime]):
    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """An ISO 8601 time; UTC where it has no zone."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time like 2024-08-08T23:54:00.", param, ctx)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


class _Speed(click.ParamType[str]):
    name = "speed"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """`max`, or a number above 0, as text."""
        text = str(value)
        if text == "max":
            return text
        text = text.removesuffix("x")
        try:
            good = 0 < float(text) < float("inf")
        except ValueError:
            good = False
        if not good:
            self.fail(f"{value!r} is neither 'max' nor a number above 0.", param, ctx)
        return text


@contextmanager
def _broker(ctx: click.Context) -> Iterator[RedisStreamsBroker]:
    settings = settings_from(ctx)
    refuse_new(settings.redis.url)
    broker = RedisStreamsBroker(settings=settings, middleware=[])
    try:
        yield broker
    finally:
        broker.close()


@click.group(epilog=EPILOG)
def replay() -> None:
    """Replay ranges of logs."""


@replay.command("start")
@click.option("-t", "--type", "types", multiple=True, required=True, help="Event type; repeatable.")
@click.option("-k", "--key", "keys", multiple=True, help="Only events of this key; repeatable.")
@click.option("--start", type=_Moment(), help="From this time on.  [default: the beginning]")
@click.option("--end", type=_Moment(), help="Up to this time.  [default: the end]")
@click.option(
    "--time-basis",
    type=click.Choice(["log", "event"]),
    default="log",
    show_default=True,
    help="Time of the append, or the event's own.",
)
@click.option("--speed", type=_Speed(), default="1", show_default=True, metavar="max|FACTOR")
@click.option("--max-rate", type=float, metavar="N", help="Events per second at most.")
@click.option(
    "--target",
    default="isolated",
    show_default=True,
    metavar="isolated|subscription:NAME|live",
    help="A namespace of its own; one subscription; the live logs.",
)
@click.option("--allow-live", is_flag=True, help="Must be said for --target live.")
@click.option("--id", "replay_id", metavar="ID", help="Its name.  [default: a random one]")
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Worker processes to start.")
@click.option("--threads", type=click.IntRange(min=1), default=8, show_default=True)
@click.option(
    "--handlers",
    multiple=True,
    metavar="MODULE",
    help="Modules with handlers and event types; repeatable.  [default: workers.handlers]",
)
@click.option("--paused", is_flag=True, help="Begin with a pause: resume or step it.")
@click.option("--later", is_flag=True, help="Only store it; `resume` runs it.")
@JSON
@click.pass_context
def _start(
    ctx: click.Context,
    /,
    types: tuple[str, ...],
    keys: tuple[str, ...],
    start: datetime | None,
    end: datetime | None,
    time_basis: str,
    speed: str,
    max_rate: float | None,
    target: str,
    allow_live: bool,
    replay_id: str | None,
    workers: int,
    threads: int,
    handlers: tuple[str, ...],
    paused: bool,
    later: bool,
    as_json_: bool,
) -> int:
    """Start a replay, and run it here to its end."""
    modules = handlers or settings_from(ctx).workers.handlers
    if paused and later:
        raise click.UsageError("--paused and --later exclude each other.")
    with _broker(ctx) as broker:
        _load_types(types, modules)
        spec = ReplaySpec.of(
            types,
            keys=keys or None,
            start=start,
            end=end,
            time_basis="event" if time_basis == "event" else "log",
            speed="max" if speed == "max" else float(speed),
            max_rate=max_rate,
            target=target,
        )
        options = WorkerOptions(workers, threads, tuple(modules)) if workers else None
        if later:
            made = define_replay(
                spec,
                replay_id=replay_id,
                workers=options,
                allow_live=allow_live,
                broker=broker,
            )
            click.echo(made.replay_id)
            return 0
        run = make_replay(
            types,
            keys=keys or None,
            start=start,
            end=end,
            time_basis="event" if time_basis == "event" else "log",
            speed="max" if speed == "max" else float(speed),
            max_rate=max_rate,
            target=target,
            replay_id=replay_id,
            paused=paused,
            workers=options,
            allow_live=allow_live,
            broker=broker,
        )
        return _run(broker, run, as_json_)


@replay.command("resume")
@click.argument("replay_id", metavar="ID")
@click.option("--handlers", multiple=True, metavar="MODULE", help="Modules with event types.")
@JSON
@click.pass_context
def _resume(ctx: click.Context, replay_id: str, handlers: tuple[str, ...], as_json_: bool) -> int:
    """Let a paused replay go on; or run here one that nobody runs."""
    with _broker(ctx) as broker:
        store = store_of(broker)
        record = store.get(replay_id)
        if record.standing.is_live:
            store.command(replay_id, "resume")
            return 0
        modules = handlers or record.definition.handlers or settings_from(ctx).workers.handlers
        _load_types(record.definition.spec.types, modules)
        return _run(broker, resume_replay(replay_id, broker=broker), as_json_)


def _load_types(types: Sequence[str], modules: Sequence[str]) -> None:
    """Imports handlers' modules if a type is not known without them; from here, as workers do."""
    if set(types) - set(registered_types()):
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        load_handlers(modules)


def _run(broker: RedisStreamsBroker, run: Replay, as_json_: bool) -> int:
    assert run.replay_id is not None
    replay_id, store = run.replay_id, store_of(broker)
    if not as_json_:
        click.echo(f"replay {replay_id}", err=True)
    shown = ProgressShown(sys.stderr, lambda: store.get(replay_id))
    with interrupted_by_signals(run) as came, shown:
        run.run(on_progress=shown.show)
    record = store.get(replay_id)
    if as_json_:
        click.echo(record_json(record))
    else:
        for line in run.report().lines():
            click.echo(line)
    if not record.standing.has_ended:
        click.echo(f"Interrupted. Go on: streamatiq replay resume {replay_id}", err=True)
        return 128 + came[0] if came else 130
    return 0


@replay.command("list")
@JSON
@click.pass_context
def _list(ctx: click.Context, as_json_: bool) -> None:
    """List all replays, oldest first."""
    with _broker(ctx) as broker:
        records = store_of(broker).all()
        if not (records or as_json_):
            click.echo(f"No replay is known in namespace {broker.keys.namespace!r}.")
            return
        for line in map(record_json, records) if as_json_ else list_lines(records):
            click.echo(line)


@replay.command("show")
@click.argument("replay_id", metavar="ID")
@JSON
@click.pass_context
def _show(ctx: click.Context, replay_id: str, as_json_: bool) -> None:
    """Show all that is known of a replay."""
    with _broker(ctx) as broker:
        record = store_of(broker).get(replay_id)
        for line in [record_json(record)] if as_json_ else show_lines(record):
            click.echo(line)


def _command(ctx: click.Context, replay_id: str, name: str, argument: str = "") -> None:
    with _broker(ctx) as broker:
        store_of(broker).command(replay_id, name, argument)


@replay.command("pause")
@click.argument("replay_id", metavar="ID")
@click.pass_context
def _pause(ctx: click.Context, replay_id: str) -> None:
    """Let nothing more out, until it is resumed."""
    _command(ctx, replay_id, "pause")


@replay.command("step")
@click.argument("replay_id", metavar="ID")
@click.argument("count", type=click.IntRange(min=1), default=1, metavar="[N]")
@click.pass_context
def _step(ctx: click.Context, replay_id: str, count: int) -> None:
    """Let N more events out, then pause."""
    _command(ctx, replay_id, "step", str(count))


@replay.command("seek")
@click.argument("replay_id", metavar="ID")
@click.argument("to", metavar="TIME|TYPE/PART/ENTRY-ID")
@click.pass_context
def _seek(ctx: click.Context, replay_id: str, to: str) -> None:
    """Go on elsewhere in the range: at a time, or at an event."""
    if "/" not in to:
        moment = _Moment().convert(to, None, ctx)
        to = str(round(moment.timestamp() * 1_000_000) * 1_000)
    _command(ctx, replay_id, "seek", to)


@replay.command("speed")
@click.argument("replay_id", metavar="ID")
@click.argument("speed", type=_Speed(), metavar="max|FACTOR")
@click.pass_context
def _speed(ctx: click.Context, replay_id: str, speed: str) -> None:
    """Change the speed."""
    _command(ctx, replay_id, "speed", speed)


@replay.command("cancel")
@click.argument("replay_id", metavar="ID")
@click.pass_context
def _cancel(ctx: click.Context, replay_id: str) -> None:
    """End it for good. What went out stays."""
    _command(ctx, replay_id, "cancel")


@replay.command("remove")
@click.argument("replay_id", metavar="ID")
@click.pass_context
def _remove(ctx: click.Context, replay_id: str) -> None:
    """Delete a replay, and all that lies in its own namespace."""
    with _broker(ctx) as broker:
        deleted = store_of(broker).remove(replay_id)
        click.echo(f"{replay_id}: removed, {deleted:,} keys.")


@replay.command("output")
@click.argument("replay_id", metavar="ID")
@click.pass_context
def _output(ctx: click.Context, replay_id: str) -> None:
    """Print the digest of what an isolated replay has put out by now."""
    with _broker(ctx) as broker:
        store_of(broker).get(replay_id)
        digest, count = replay_output(broker, replay_id)
        click.echo(f"{digest} {count}")


@replay.command("diff")
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@click.option("--ignore", multiple=True, metavar="FIELD", help="Leave a field out; repeatable.")
@click.option("--show", type=click.IntRange(min=0), default=10, show_default=True, metavar="N")
@JSON
@click.pass_context
def _diff(
    ctx: click.Context, one: str, other: str, ignore: tuple[str, ...], show: int, as_json_: bool
) -> int:
    """Compare the outputs of two isolated replays, event by event.

    Times of publishing and appending are left out.
    """
    with _broker(ctx) as broker:
        found = diff_replays(
            store_of(broker),
            links_of(broker),
            broker.keys,
            one,
            other,
            ignore=ignore,
            show=show,
        )
        for line in [diff_json(found)] if as_json_ else diff_lines(one, other, found):
            click.echo(line)
        return 0 if found.same else 1
