"""`streamatiq dead`: what could not be handled; look at it, let it run again, or delete it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice

import click

from ..broker import DeadLetterFilter, RedisStreamsBroker
from ..broker.wording import counted
from ._dead_options import AGO, WHERE, filter_from
from ._dead_text import (
    as_json,
    bug_lines,
    letter_lines,
    one_letter,
    overview_json,
    overview_lines,
    said,
)
from ._server import refuse_new
from ._state import settings_from

__all__ = ["dead"]

#: Exit code when some letters could not be requeued and were kept.
KEPT = 3

EPILOG = """\b
Exit codes:
  0    done
  1    failed; or a letter that was asked for by its id is not there
  2    wrong usage, or wrong settings
  3    done, but some letters could not be requeued and were kept
  130  interrupted; what was done before stays done

Times are UTC. Who requeues or purges what is recorded in the queue's audit.
"""

JSON = click.option("--json", "as_json_", is_flag=True, help="Print one JSON object a line.")


@contextmanager
def _broker(ctx: click.Context) -> Iterator[RedisStreamsBroker]:
    settings = settings_from(ctx)
    refuse_new(settings.redis.url)
    broker = RedisStreamsBroker(settings=settings, middleware=[])
    try:
        yield broker
    finally:
        broker.close()


def _known(broker: RedisStreamsBroker, queue: str) -> None:
    """Refuses a queue of which nothing is known: most likely it is misspelt."""
    known = broker.known_queues()
    if queue not in known and not broker.count_dead_letters(queue):
        names = ", ".join(known) or "none yet"
        raise click.BadParameter(
            f"{queue!r} is no queue or subscription of namespace {broker.keys.namespace!r}; "
            f"known: {names}.",
            param_hint="QUEUE",
        )


@click.group(invoke_without_command=True, epilog=EPILOG)
@JSON
@click.pass_context
def dead(ctx: click.Context, as_json_: bool) -> None:
    """Look at dead letters, let them run again, or delete them.

    Without a command: all queues and subscriptions that have dead letters. None of the handlers'
    code is needed; what there is, is known from the server.
    """
    if ctx.invoked_subcommand is not None:
        if as_json_:
            raise click.UsageError(f"Give --json behind {ctx.invoked_subcommand}.")
        return
    with _broker(ctx) as broker:
        known = broker.known_queues()
        if not (known or as_json_):
            where = f"namespace {broker.keys.namespace!r} on {broker.endpoint.shown}"
            click.echo(f"No queue or subscription is known in {where}.")
            return
        found = [broker.dead_letter_summary(name) for name in known]
        shown = [summary for summary in found if summary.letters]
        for line in map(overview_json, shown) if as_json_ else overview_lines(shown, len(known)):
            click.echo(line)


@dead.command("list")
@click.argument("queue")
@WHERE
@click.option("--newest", is_flag=True, help="Newest first.  [default: oldest first]")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, metavar="N")
@click.option("--after", metavar="ID", help="Go on behind this letter.")
@click.option("--bugs", is_flag=True, help="Show bugs (digests) instead, the most frequent first.")
@JSON
@click.pass_context
def _list(
    ctx: click.Context,
    /,
    queue: str,
    newest: bool,
    limit: int,
    after: str | None,
    bugs: bool,
    as_json_: bool,
    **conditions: object,
) -> None:
    """List the dead letters of QUEUE: a work queue or a subscription."""
    with _broker(ctx) as broker, _wrong_values():
        _known(broker, queue)
        where = filter_from(broker, conditions)
        chosen = where != DeadLetterFilter() or after is not None
        if bugs:
            letters = broker.dead_letters(queue, where, newest_first=True)
            for line in bug_lines(queue, letters, limit, as_json=as_json_, chosen=chosen):
                click.echo(line)
            return
        found = broker.dead_letters(queue, where, after=after, newest_first=newest)
        page = list(islice(found, limit))
        more = next(found, None) is not None
        if as_json_:
            for letter in page:
                click.echo(as_json(letter))
            return
        for line in letter_lines(queue, page, more=more, newest=newest, chosen=chosen):
            click.echo(line)


@dead.command("show")
@click.argument("queue")
@click.argument("letter_id", metavar="ID")
@JSON
@click.pass_context
def _show(ctx: click.Context, queue: str, letter_id: str, as_json_: bool) -> None:
    """Show all that is known of one dead letter."""
    with _broker(ctx) as broker, _wrong_values():
        _known(broker, queue)
        letter = broker.dead_letter(queue, letter_id)
        click.echo(as_json(letter) if as_json_ else one_letter(letter))


ALL = click.option("--all", "all_", is_flag=True, help="All letters of QUEUE.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Only show which ones would be meant.")


@dead.command("requeue")
@click.argument("queue")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@WHERE
@ALL
@DRY_RUN
@JSON
@click.pass_context
def _requeue(
    ctx: click.Context,
    /,
    queue: str,
    ids: tuple[str, ...],
    all_: bool,
    dry_run: bool,
    as_json_: bool,
    **conditions: object,
) -> int:
    """Let dead letters run again, as if for the first time.

    Name them by ID, or by options, or say --all. Messages go to the end of their lane, whatever the
    limit on backlog; events become pending again at their place, for this subscription alone.
    """
    with _broker(ctx) as broker, _wrong_values():
        _known(broker, queue)
        where = _selected(broker, ids, all_, conditions)
        if dry_run:
            return _dry_run(broker, queue, where, "requeued", as_json_)
        told = _Told(as_json_)
        told.tally = broker.requeue_dead_letters(queue, where, on_outcome=told)
        return told.end(queue, "requeued", asked=len(ids))


@dead.command("purge")
@click.argument("queue")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@WHERE
@click.option("--older-than", type=AGO, metavar="AGE", help="The same as --until: 7d, 12h, 30m.")
@ALL
@DRY_RUN
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@JSON
@click.pass_context
def _purge(
    ctx: click.Context,
    /,
    queue: str,
    ids: tuple[str, ...],
    all_: bool,
    dry_run: bool,
    yes: bool,
    older_than: timedelta | None,
    as_json_: bool,
    **conditions: object,
) -> int:
    """Delete dead letters for good.

    Name them by ID, or by options, or say --all.
    """
    if older_than is not None:
        if conditions["until"] is not None:
            raise click.UsageError("--older-than and --until exclude each other.")
        conditions["until"] = older_than
    with _broker(ctx) as broker, _wrong_values():
        _known(broker, queue)
        where = _selected(broker, ids, all_, conditions)
        if dry_run:
            return _dry_run(broker, queue, where, "purged", as_json_)
        if not (yes or _confirmed(broker, queue, where)):
            click.echo("Nothing was deleted.", err=True)
            return 1
        told = _Told(as_json_)
        told.tally = broker.purge_dead_letters(queue, where, on_outcome=told)
        return told.end(queue, "purged", asked=len(ids))


@contextmanager
def _wrong_values() -> Iterator[None]:
    """A wrong id or filter is wrong usage."""
    try:
        yield
    except ValueError as error:
        if isinstance(error, UnicodeError):
            raise
        raise click.UsageError(str(error)) from error


def _selected(
    broker: RedisStreamsBroker, ids: tuple[str, ...], all_: bool, conditions: dict[str, object]
) -> DeadLetterFilter:
    where = filter_from(broker, conditions, ids)
    chosen = where != DeadLetterFilter()
    if all_ and chosen:
        raise click.UsageError("--all excludes ids and conditions.")
    if not all_ and not chosen:
        raise click.UsageError("Which ones? Give ids, conditions such as --cause, or --all.")
    return where


def _dry_run(
    broker: RedisStreamsBroker, queue: str, where: DeadLetterFilter, done: str, in_json: bool
) -> int:
    letters = 0
    for letter in broker.dead_letters(queue, where):
        letters += 1
        if in_json:
            click.echo(as_json(letter))
        else:
            click.echo(f"{letter.id}  {letter.cause}  {said(letter)}")
    if not in_json:
        found = counted(letters, "letter")
        click.echo(f"{found} of {queue} would be {done}; nothing was changed.")
    return 0


def _confirmed(broker: RedisStreamsBroker, queue: str, where: DeadLetterFilter) -> bool:
    if not sys.stdin.isatty():
        raise click.UsageError("This deletes for good, and nobody can be asked here: give --yes.")
    letters = broker.count_dead_letters(queue, where)
    found = counted(letters, "dead letter")
    return click.confirm(f"Delete {found} of {queue} for good?", err=True)


#: Why a letter was kept, and what to do.
KEPT_BECAUSE = {
    "trimmed": "the log does not have the event any more, so it cannot run again: publish it anew "
    "from what `show` prints, or purge the letter",
    "pending": "the event is running or waiting to run already; purge the letter if that is right",
    "no_group": "the subscription does not exist on the server: start its worker, then try again",
}


class _Told:
    """Tells what became of each letter, and of all of them in the end."""

    def __init__(self, in_json: bool) -> None:
        self._json = in_json
        self.tally: Counter[str] = Counter()

    def __call__(self, letter_id: str, outcome: str) -> None:
        if self._json:
            click.echo(json.dumps({"id": letter_id, "outcome": outcome}))
        elif outcome in KEPT_BECAUSE:
            click.echo(f"{letter_id}  kept: {KEPT_BECAUSE[outcome]}.")
        elif outcome == "gone":
            click.echo(f"{letter_id}  is not there (any more).")

    def end(self, queue: str, done: str, *, asked: int) -> int:
        """The last line, and the exit code."""
        kept = sum(self.tally[outcome] for outcome in KEPT_BECAUSE)
        gone = self.tally["gone"]
        if not self._json:
            parts = [f"{self.tally[done]:,} {done}"]
            parts += [f"{kept:,} kept"] if kept else []
            parts += [f"{gone:,} gone"] if gone else []
            click.echo(f"{queue}: {', '.join(parts)}.")
        if kept:
            return KEPT
        return 1 if asked and gone else 0
