"""Which queues and subscriptions there are in a namespace, as recorded on the server.

Whoever begins to read one records it (`enlist.lua`), and nothing takes it off: dead letters of a
subscription that nobody runs any more are found too. Only names are stored, so that records of
older releases stay readable.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..events import Lane
from .connections import Link
from .keys import Keys
from .members import ReadSource

__all__ = ["KnownQueue", "known_queues", "read_source"]


@dataclass(frozen=True, slots=True)
class KnownQueue:
    """A work queue or a subscription.

    Parameters:
      name: Its name.
      sources: The streams that it reads, or once read.
      last_read_ms: When a process last began to read it, ms UTC, the server's clock.
    """

    name: str
    sources: tuple[ReadSource, ...]
    last_read_ms: int

    @property
    def is_subscription(self) -> bool:
        """Whether it reads logs."""
        return any(source.is_log for source in self.sources)


def read_source(keys: Keys, queue: str, name: str) -> ReadSource | None:
    """The source of `queue` that is called `name`; None for a name that is none of ours."""
    kind, _, rest = name.partition(":")
    what, _, part = rest.rpartition(":")
    if kind == "log" and what:
        return ReadSource(name, queue, True, keys.log(what, part).subscription(queue))
    if kind == "queue" and part in set(Lane):
        return ReadSource(name, queue, False, keys.queue(what).lane(Lane(part)))
    return None


def known_queues(link: Link, keys: Keys) -> dict[str, KnownQueue]:
    """All that is recorded, by name, in the order of names.

    Raises:
      BrokerError: The server cannot be reached or refuses.
    """
    found: dict[str, list[tuple[ReadSource, int]]] = {}
    flat = link.send("HGETALL", keys.members.known)
    for field, at in sorted(zip(flat[::2], flat[1::2], strict=True)):
        queue, _, name = field.decode().partition(" ")
        source = read_source(keys, queue, name)
        if source is not None:  # else of a later release: nothing we could read
            found.setdefault(queue, []).append((source, int(at)))
    return {
        queue: KnownQueue(queue, tuple(source for source, _ in pairs), max(at for _, at in pairs))
        for queue, pairs in found.items()
    }
