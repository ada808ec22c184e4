"""Options of `streamatiq dead` that say which letters are meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from ..broker import DeadLetterFilter, RedisStreamsBroker
from ..broker.dead_letter_entry import CAUSES

__all__ = ["AGO", "MOMENT", "WHERE", "filter_from"]

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
#: Longest age, seconds: a hundred years.
_MAX_AGE_S = 100 * 365 * 86_400


class _Ago(click.ParamType[timedelta]):
    name = "age"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """How long ago: 45s, 30m, 12h, 7d, 2w."""
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhdw])", str(value), re.ASCII)
        seconds = float(found[1]) * _UNITS[found[2]] if found else -1.0
        if not 0 <= seconds <= _MAX_AGE_S:
            self.fail(f"{value!r} is no age; write 45s, 30m, 12h, 7d or 2w.", param, ctx)
        return timedelta(seconds=seconds)


class _Moment(click.ParamType["timedelta | datetime"]):
    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta | datetime:
        """An age, or a time as ISO 8601; UTC where it names no zone."""
        if re.fullmatch(r"[0-9.]+[a-z]", str(value), re.ASCII):
            return AGO.convert(value, param, ctx)
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(
                f"{value!r} is no time; write 2026-08-01T12:00 (UTC), or an age such as 2h.",
                param,
                ctx,
            )
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


AGO = _Ago()
MOMENT = _Moment()

_OPTIONS = (
    click.option(
        "--cause", "causes", multiple=True, type=click.Choice(CAUSES), help="Of this cause."
    ),
    click.option(
        "--actor", "subjects", multiple=True, metavar="NAME", help="Of this actor or event type."
    ),
    click.option("--error", default="", metavar="TEXT", help="With TEXT in its error."),
    click.option(
        "--digest", "digests", multiple=True, metavar="DIGEST", help="Of this bug: see list --bugs."
    ),
    click.option(
        "--since",
        type=MOMENT,
        metavar="TIME",
        help="Given up since: 2h, or 2026-08-01T12:00 (UTC).",
    ),
    click.option("--until", type=MOMENT, metavar="TIME", help="Given up before."),
)


def WHERE(command: F) -> F:
    """The conditions; an option that is given more than once means either."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def filter_from(
    broker: RedisStreamsBroker, conditions: Mapping[str, Any], ids: tuple[str, ...] = ()
) -> DeadLetterFilter:
    """The filter that the options ask for; ages count from the server's now.

    Raises:
      ValueError: A value is none.
    """
    values = dict(conditions)
    now: datetime | None = None
    for name in ("since", "until"):
        if isinstance(values[name], timedelta):
            now = now or broker.server_time()
            values[name] = now - values[name]
    return DeadLetterFilter(**values, ids=ids)
