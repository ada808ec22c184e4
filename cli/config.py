"""`streamatiq config`: which settings are in force, and where each came from."""

from __future__ import annotations

import json

import click
from pydantic import BaseModel

from .._config_layer import redact
from ..settings import DEFAULT_FILE, Settings
from ._state import State, pass_state

__all__ = ["config"]


@click.group()
def config() -> None:
    """Show and check the settings."""


@config.command("show")
@pass_state
def _show(state: State) -> None:
    """Print every setting, its value, and where the value came from.

    Passwords are replaced by stars.
    """
    settings, origins = state.loaded
    file = Settings.file_read(state.config)
    none = f"none was read; {DEFAULT_FILE} does not exist here"
    click.echo(f"Settings file: {none if file is None else file}")
    rows = [(key, _shown(settings, key), origin) for key, origin in origins.items()]
    key_width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    for key, value, origin in rows:
        click.echo(f"{key:<{key_width}}  {value:<{value_width}}  {origin}")


@config.command("check")
@pass_state
def _check(state: State) -> None:
    """Check the settings of all sources; list everything that is wrong."""
    _, origins = state.loaded
    changed = sum(origin != "default" for origin in origins.values())
    click.echo(f"Settings are right: {changed} of {len(origins)} are set, the others are defaults.")


def _shown(settings: BaseModel, key: str) -> str:
    value: object = settings
    for name in key.split("."):
        value = getattr(value, name)
    return redact(json.dumps(value)) if key == "redis.url" else json.dumps(value)
