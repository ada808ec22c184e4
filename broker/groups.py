"""Consumer groups: made before the first read, and anew after a stream was deleted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import CommandFailed
from .connections import Link
from .sources import Source

__all__ = ["ensure_groups", "groups_maker", "wake_keys"]


def ensure_groups(link: Link, sources: Sequence[Source], start: str) -> None:
    """Makes the groups of `sources`, and of their wake streams, that do not exist yet.

    Parameters:
      start: Entry id from which a new group reads: `$` (new entries only) or `0`.

    Raises:
      CommandFailed: The server refused; names the key.
      BrokerConnectionError: The server cannot be reached.
    """
    commands: list[Sequence[Any]] = [
        ("XGROUP", "CREATE", source.keys.entries, source.group, start, "MKSTREAM")
        for source in sources
    ]
    commands += [
        ("XGROUP", "CREATE", key, sources[0].group, "$", "MKSTREAM") for key in wake_keys(sources)
    ]
    for command, reply in zip(commands, link.send_many(commands), strict=True):
        if isinstance(reply, Exception) and "BUSYGROUP" not in str(reply):
            raise CommandFailed(
                f"Cannot make the consumer group {command[3]!r} on {command[2]}: {reply}. If "
                "another program uses this key, choose another namespace."
            ) from reply


def wake_keys(sources: Sequence[Source]) -> list[str]:
    """The wake streams of `sources`, each once."""
    return list(dict.fromkeys(source.keys.wake for source in sources))


def groups_maker(sources: Sequence[Source], start: str) -> Callable[[Link], None]:
    """`ensure_groups` as an action of a `LinkPool`."""
    return lambda link: ensure_groups(link, sources, start)
