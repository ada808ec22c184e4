"""Who reads a subscription, and who did and is dead: asked of the server."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..broker import reclaimer
from ..broker.connections import Link
from ..broker.keys import Keys
from ..broker.scripts import Alive

__all__ = ["Readers", "find_readers"]


@dataclass(slots=True)
class Readers:
    """The consumers of one subscription.

    Parameters:
      alive: Seconds since each was heard of, by name.
      dead: Those that were silent for too long, and that nobody has reclaimed yet.
    """

    alive: dict[str, float] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        shown = [f"{name} ({silent_s:.0f} s ago)" for name, silent_s in self.alive.items()]
        return ", ".join(shown)


def find_readers(link: Link, keys: Keys, idle: str | None = None) -> dict[str, Readers]:
    """The consumers of all queues and subscriptions, by name.

    Dead is who was silent for as long as `reclaimer.SILENCE_S`; after an outage of the server all
    seem to be.

    Parameters:
      idle: One that is listed and known to read nothing: this process.

    Raises:
      BrokerError: The server cannot be reached or refuses.
    """
    seconds, micros = link.send("TIME")
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    flat = link.send("HGETALL", keys.members.alive)
    names = [name.decode() for name in flat[::2]]
    reads = link.send_many([("HKEYS", keys.members.reads(name)) for name in names]) if names else []
    found: dict[str, Readers] = {}
    for name, text, queues in zip(names, flat[1::2], reads, strict=True):
        silent_s = max(0, now_ms - Alive.parse(text).beat_ms) / 1000
        for queue in () if name == idle else queues:
            readers = found.setdefault(queue.decode(), Readers())
            if silent_s < reclaimer.SILENCE_S:
                readers.alive[name] = silent_s
            else:
                readers.dead.append(name)
    return found
