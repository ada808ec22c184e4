"""A group whose commands are imported when they are run, so that `--help` imports none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

import click

__all__ = ["LazyCommand", "LazyGroup"]


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command is found.

    Attributes:
      module: Module in this package that holds the command under the command's own name.
      help: The line that the group's help shows.
    """

    module: str
    help: str


class LazyGroup(click.Group):
    """A group of `LazyCommand`s."""

    def __init__(self, *, lazy: Mapping[str, LazyCommand], **attrs: object) -> None:
        super().__init__(**attrs)  # type: ignore[arg-type]  # what click.group() collected
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which they were declared."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in self._lazy:
            return None
        module = import_module(f".{self._lazy[cmd_name].module}", __package__)
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As the base class, which would import every command to suggest a name."""
        if args and args[0] not in self._lazy and not args[0].startswith("-"):
            known = ", ".join(self._lazy)
            ctx.fail(f"No such command {args[0]!r}; there are: {known}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in self._lazy.items()])
