"""What replays that run still need of the logs: retention leaves it alone.

A replay pins its range before it looks whether that is still there, and again as it comes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import methodcaller

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from ..broker import RedisStreamsBroker
from ..broker import retention_scripts as scripts
from ..broker.connections import LinkPool
from ..broker.keys import Keys
from ..errors import CommandFailed
from .exclusive import run, turn

__all__ = ["pin", "pins", "unpin"]

_Pin = TypeAdapter(dict[str, dict[str, str]])


def pin(
    broker: RedisStreamsBroker,
    replay: str,
    lowest: Mapping[str, str],
    *,
    links: LinkPool | None = None,
) -> None:
    """Keeps what a replay needs, from now on and until `unpin`, also if its process dies.

    Once this has returned, no trimming is under way that does not know it: what is still there
    stays. Another call replaces what the first one has said. Harmless to repeat.

    Parameters:
      replay: Its id.
      lowest: The lowest entry id that it needs, by `TYPE:PART`.

    Raises:
      CheckpointsBusy: Retention is at work, and was not done in time.
      BrokerError: The server cannot be reached or refuses.
    """
    chosen, keys = links or broker.logs.links, broker.keys.checkpoints
    with turn(chosen, keys, f"pinning what replay {replay} needs"):
        run(chosen, scripts.pin(keys, replay, to_json({"streams": dict(lowest)})))


def unpin(broker: RedisStreamsBroker, replay: str, *, links: LinkPool | None = None) -> None:
    """The replay needs nothing any more. Harmless to repeat. Raises BrokerError as `pin`."""
    run(links or broker.logs.links, scripts.pin(broker.keys.checkpoints, replay, b""))


def pins(links: LinkPool, keys: Keys) -> dict[str, dict[str, str]]:
    """What is pinned: the lowest entry id by `TYPE:PART`, by replay.

    Raises:
      CommandFailed: A record cannot be read: nothing must be trimmed then.
      BrokerError: The server cannot be reached or refuses.
    """
    flat = links.call(methodcaller("send", "HGETALL", keys.checkpoints.running))
    found: dict[str, dict[str, str]] = {}
    for name, text in zip(flat[::2], flat[1::2], strict=True):
        try:
            found[name.decode()] = _Pin.validate_json(text)["streams"]
        except (ValidationError, KeyError) as error:
            raise CommandFailed(
                f"{keys.checkpoints.running} says of replay {name.decode()!r} what cannot be read: "
                f"{text[:80]!r}. Nothing is trimmed until it is right, or gone: HDEL "
                f"{keys.checkpoints.running} {name.decode()}"
            ) from error
    return found
