"""`streamatiq halt`, `resume`, `halts`: stop something now, let it run again, see what is stopped.

None of the handlers' code is needed, and no worker that runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from ..broker import Halt, RedisStreamsBroker, Scope
from ..broker.wording import counted
from ._server import refuse_new
from ._state import settings_from

__all__ = ["broker_of", "halt", "halts", "resume"]

F = TypeVar("F", bound=Callable[..., Any])

#: Exit code where there was nothing to resume.
NOTHING = 1

EPILOG = """\b
Exit codes:
  0  done; also where it was halted before: the first reason stays
  1  failed: the server does not answer, or refuses
  2  wrong usage or settings, or no such subscription or work queue

Worker processes that reach the server stop within 0.2 s; handlers that run are not interrupted.
A halt never ends by itself. Who halts what, and why, is audited.
"""
RESUME_EPILOG = """\b
Exit codes:
  0  done
  1  it was not halted; or failed: the server does not answer, or refuses
  2  wrong usage, or wrong settings

Ends the one halt that was begun with the same words; `streamatiq halts` shows all.
"""

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")


@contextmanager
def broker_of(ctx: click.Context) -> Iterator[RedisStreamsBroker]:
    """A broker of this run's settings that declares nothing; starts no embedded server anew."""
    settings = settings_from(ctx)
    refuse_new(settings.redis.url)
    broker = RedisStreamsBroker(settings=settings, middleware=[])
    try:
        yield broker
    finally:
        broker.close()


def _scoped(command: F) -> F:
    """The arguments that name a scope."""
    for add in (
        click.option("--all", "everything", is_flag=True, help="Everything in the namespace."),
        click.option("--key", metavar="KEY", help="Events of KEY; alone: of every subscription."),
        click.argument("subscription", required=False),
    ):
        command = add(command)
    return command


def _scope(subscription: str | None, key: str | None, everything: bool) -> Scope:
    try:
        return Scope.of(subscription, key, everything)
    except ValueError:
        raise click.UsageError(
            "What is meant? Name a SUBSCRIPTION (or work queue), --key KEY, both, or --all alone."
        ) from None


@click.command(epilog=EPILOG)
@_scoped
@click.option("--reason", required=True, metavar="TEXT", help="Why; whoever finds it must know.")
@click.option("--unknown-ok", is_flag=True, help="Though no worker has ever read SUBSCRIPTION.")
@JSON
@click.pass_context
def halt(
    ctx: click.Context,
    subscription: str | None,
    key: str | None,
    everything: bool,
    reason: str,
    unknown_ok: bool,
    as_json: bool,
) -> int:
    """Stop a subscription or work queue, a key, or everything, in all worker processes.

    Handlers with runs_when_halted (cancels, say) still run.
    """
    scope = _scope(subscription, key, everything)
    if not reason.strip():
        raise click.BadParameter("say why, in words.", param_hint="--reason")
    with broker_of(ctx) as broker:
        if scope.subscription is not None and not unknown_ok:
            _refuse_unknown(broker, scope.subscription)
        done = broker.halt(subscription, key, everything, reason=reason)
    if as_json:
        click.echo(json.dumps({**_fields(done.halt), "new": done.is_new}, ensure_ascii=False))
    elif done.is_new:
        click.echo(f"Halted: {done.halt.scope}.")
    else:
        click.echo(f"Halted already, and stays so: {done.halt}")
    return 0


@click.command(epilog=RESUME_EPILOG)
@_scoped
@click.option("--reason", default="", metavar="TEXT", help="Why, for the audit.")
@JSON
@click.pass_context
def resume(
    ctx: click.Context,
    subscription: str | None,
    key: str | None,
    everything: bool,
    reason: str,
    as_json: bool,
) -> int:
    """End a halt.

    --all ends the halt of everything; what was halted by name stays halted.
    """
    scope = _scope(subscription, key, everything)
    with broker_of(ctx) as broker:
        ended = broker.resume(subscription, key, everything, reason=reason)
        left = broker.halts()
    if as_json:
        if ended is not None:
            click.echo(json.dumps(_fields(ended), ensure_ascii=False))
        return 0 if ended is not None else NOTHING
    if ended is None:
        click.echo(f"Not halted: {scope}.")
    else:
        click.echo(f"Resumed: {scope}.")
    if left:
        click.echo(f"{counted(len(left), 'other halt holds', 'other halts hold')}:")
        for one in left:
            click.echo(f"  {one}")
    return 0 if ended is not None else NOTHING


@click.command()
@JSON
@click.pass_context
def halts(ctx: click.Context, as_json: bool) -> None:
    """Show what is halted, why, by whom and since when; oldest first."""
    with broker_of(ctx) as broker:
        found = broker.halts()
    for one in found:
        click.echo(json.dumps(_fields(one), ensure_ascii=False) if as_json else str(one))
    if not (found or as_json):
        click.echo("Nothing is halted.")


def _refuse_unknown(broker: RedisStreamsBroker, name: str) -> None:
    """Most likely it is misspelt, and a halt that stops nothing is worse than none."""
    known = broker.known_queues()
    if name not in known:
        raise click.BadParameter(
            f"{name!r} is no subscription or work queue of namespace "
            f"{broker.keys.namespace!r}; known: {', '.join(known) or 'none yet'}. Nothing was "
            "halted. Is it right all the same: --unknown-ok.",
            param_hint="SUBSCRIPTION",
        )


def _fields(one: Halt) -> dict[str, Any]:
    return {
        "scope": one.scope.kind,
        "subscription": one.scope.subscription,
        "key": one.scope.key,
        "reason": one.reason,
        "by": one.by,
        "since": one.since.isoformat(),
    }
