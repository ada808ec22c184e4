"""Consumer groups: made before the first read, and anew after a stream was deleted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import CommandFailed
from . import scripts
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
    group = sources[0].group
    streams = [(source.keys.entries, start) for source in sources]
    streams += [(key, "$") for key in wake_keys(sources)]
    errors = link.run(scripts.ensure(group, streams))
    for (key, _), error in zip(streams, errors, strict=True):
        if error:
            raise CommandFailed(
                f"Cannot make the consumer group {group!r} on {key}: {error}. If another program "
                "uses this key, choose another namespace."
            )


def wake_keys(sources: Sequence[Source]) -> list[str]:
    """The wake streams of `sources`, each once."""
    return list(dict.fromkeys(source.keys.wake for source in sources))


def groups_maker(sources: Sequence[Source], start: str) -> Callable[[Link], None]:
    """`ensure_groups` as an action of a `LinkPool`."""
    return lambda link: ensure_groups(link, sources, start)
