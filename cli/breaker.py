"""`streamatiq breaker`: circuit breakers; look at them, open, close or reset them by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import click

from ..broker import BreakerState
from .halt import JSON, broker_of

__all__ = ["breaker"]

EPILOG = """\b
Exit codes:
  0  done; also where nothing had to change
  1  failed: the server does not answer, or refuses
  2  wrong usage, or wrong settings

What is done by hand is audited.
"""

REASON = click.option("--reason", required=True, metavar="TEXT", help="Why, for the audit.")


@click.group(epilog=EPILOG)
def breaker() -> None:
    """Look at circuit breakers; open, close or reset them by hand."""


@breaker.command("list")
@JSON
@click.pass_context
def _list(ctx: click.Context, as_json: bool) -> None:
    """Show the breakers that are open, half-open, or have failures. All others are closed."""
    with broker_of(ctx) as broker:
        found = broker.breakers()
    for one in found:
        line = json.dumps(_fields(one), ensure_ascii=False) if as_json else str(one)
        click.echo(line[:1].upper() + line[1:])
    if not (found or as_json):
        click.echo("All breakers are closed.")


@breaker.command("open")
@click.argument("name")
@REASON
@click.option(
    "--for",
    "seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Until one event is tried.  [default: event_bus.circuit_breaker.reset_time]",
)
@click.option("--until-closed", is_flag=True, help="Until it is closed or reset by hand.")
@JSON
@click.pass_context
def _open(
    ctx: click.Context,
    name: str,
    reason: str,
    seconds: float | None,
    until_closed: bool,
    as_json: bool,
) -> int:
    """Open breaker NAME: what needs it waits."""
    if until_closed and seconds is not None:
        raise click.UsageError("--for and --until-closed exclude each other.")
    _stated(reason)
    with broker_of(ctx) as broker:
        reset_s = math.inf if until_closed else seconds
        before = broker.open_breaker(name, reason=reason, reset_time_s=reset_s)
    return _said(name, before, "open", as_json)


@breaker.command("close")
@click.argument("name")
@REASON
@JSON
@click.pass_context
def _close(ctx: click.Context, name: str, reason: str, as_json: bool) -> int:
    """Close breaker NAME and forget its failures: everything runs again."""
    _stated(reason)
    with broker_of(ctx) as broker:
        before = broker.close_breaker(name, reason=reason)
    return _said(name, before, "closed", as_json)


@breaker.command("reset")
@click.argument("name")
@REASON
@JSON
@click.pass_context
def _reset(ctx: click.Context, name: str, reason: str, as_json: bool) -> int:
    """Let one event through breaker NAME now, as its probe: it closes it, or opens it again."""
    _stated(reason)
    with broker_of(ctx) as broker:
        before = broker.reset_breaker(name, reason=reason)
    return _said(name, before, "closed" if before == "closed" else "half_open", as_json)


def _stated(reason: str) -> None:
    if not reason.strip():
        raise click.BadParameter("say why, in words.", param_hint="--reason")


def _said(name: str, before: str, after: str, as_json: bool) -> int:
    if as_json:
        fields = {"breaker": name, "before": before, "after": after}
        click.echo(json.dumps(fields, ensure_ascii=False))
    else:
        click.echo(f"Breaker {name!r} is {_shown(after)}; it was {_shown(before)}.")
    return 0


def _shown(state: str) -> str:
    return state.replace("_", "-")


def _fields(one: BreakerState) -> dict[str, Any]:
    return {
        "breaker": one.name,
        "state": one.state,
        "failures": one.failures,
        "since": one.since.isoformat(),
        "until": None if one.until is None or one.state != "open" else one.until.isoformat(),
        "reason": one.reason,
        "by": one.by,
        "probe_by": one.probe_by,
    }
