"""What the commands of one run share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import click

from ..settings import Settings

__all__ = ["State", "pass_state", "settings_from"]


@dataclass
class State:
    """Options of the group, and what follows from them.

    Attributes:
      config: The settings file named by --config.
      verbosity: How often -v was given.
    """

    config: Path | None = None
    verbosity: int = 0

    @cached_property
    def loaded(self) -> tuple[Settings, dict[str, str]]:
        """The settings and where each value came from, read on first use."""
        return Settings.load_with_origins(self.config)


#: Passes the state to a command; makes one where the group is run by other means than `main`.
pass_state = click.make_pass_decorator(State, ensure=True)


def settings_from(ctx: click.Context) -> Settings:
    """The settings of this run; read and checked when a command first asks.

    Raises:
      InvalidSettings: Settings are unknown or bad.
    """
    return ctx.ensure_object(State).loaded[0]
