"""The reclaimer: finds dead processes and hands back what they held.

It runs in the heartbeat thread of the one process that has the lease. A process is believed dead

- when it was silent for too long (the heartbeat script says so), or
- when `CLIENT LIST ID` no longer shows its connection, twice, `BELIEVE_S` apart, and it has not
  reported another one: only for connections to the same run of the server as ours, since a restart
  makes all of them vanish; and only where the user may run that command.

Each stream that it read is fenced for it first, then its entries are taken, in log order. A
reclaimer that dies in the middle leaves the dead consumer listed, so the next one goes on.
"""

from __future__ import annotations

import time

from dramatiq.logging import get_logger

from ..errors import BrokerConnectionError, BrokerError, PermissionDenied
from . import scripts
from .connections import Link
from .identity import Identity
from .keys import MemberKeys
from .members import ReadSource, decode_reads
from .scripts import Heartbeat

__all__ = ["Reclaimer"]

#: Seconds between two looks at the connections.
LOOK_S = 1.0
#: Seconds between noticing that a connection is gone and believing it.
BELIEVE_S = 0.6
#: Seconds between two searches for consumers that are listed nowhere.
SWEEP_S = 60.0
#: Entries taken in one call.
PAGE = 200

#: The server's run id, and the number of a connection in it.
Connection = tuple[str, int]


class Reclaimer:
    """Not thread-safe: the heartbeat thread's, but for `reclaim`, which uses only its arguments.

    Parameters:
      members: Who lives.
      identity: This process; also gives the names that it lost.
      max_deliveries: How often an entry may be in the hands of a dying worker.
    """

    def __init__(self, members: MemberKeys, identity: Identity, *, max_deliveries: int) -> None:
        self.logger = get_logger(__name__, type(self))
        self._members = members
        self._identity = identity
        self._max_deliveries = max_deliveries
        self._ours: Connection | None = None
        self._clients: dict[str, Connection] = {}
        self._may_look = True
        self._next_look: float | None = None
        self._next_sweep = 0.0
        self._missing: dict[str, Connection] = {}

    def told(self, link: Link, beat: Heartbeat, ours: Connection | None) -> None:
        """Takes in a heartbeat's reply; reclaims what it says is dead.

        Raises:
          BrokerError: The server cannot be reached or refused.
        """
        for consumer in self._identity.take_lost():
            self.reclaim(link, consumer, fence=True)
        if not beat.is_reclaimer:
            self.pause()
            return
        self._ours = ours
        self._clients = beat.clients
        for consumer in beat.silent:
            if consumer != self._identity.consumer:
                self.logger.warning("%s was silent for too long; taking what it held.", consumer)
                self.reclaim(link, consumer, fence=True)
        if self._next_look is None and ours is not None and self._may_look:
            self._next_look = time.monotonic()
        if time.monotonic() >= self._next_sweep:
            self._sweep(link)
            self._next_sweep = time.monotonic() + SWEEP_S

    def pause(self) -> None:
        """Not the reclaimer at the moment."""
        self._next_look = None
        self._next_sweep = 0.0
        self._missing.clear()

    def look(self, link: Link) -> float | None:
        """Looks for connections that are gone, if it is time; returns when to look again.

        Raises:
          BrokerError: The server cannot be reached or refused.
        """
        now = time.monotonic()
        if self._next_look is None or now < self._next_look:
            return self._next_look
        ours = self._ours
        others = {
            consumer: connection
            for consumer, connection in self._clients.items()
            if ours and connection[0] == ours[0] and consumer != self._identity.consumer
        }
        gone = self._gone(link, others)
        for consumer in [one for one in gone if self._missing.get(one) == gone[one]]:
            if self._reported_again(link, consumer, gone.pop(consumer)):
                continue
            self.logger.warning("%s has died; taking what it held.", consumer)
            self._clients.pop(consumer, None)
            self.reclaim(link, consumer, fence=True)
        self._missing = gone
        self._next_look = None if not self._may_look else now + (BELIEVE_S if gone else LOOK_S)
        return self._next_look

    def reclaim(self, link: Link, consumer: str, *, fence: bool) -> int:
        """Takes all that `consumer` held, and drops it from the list.

        Parameters:
          fence: Declare it dead first; not needed by a process that leaves by itself.

        Returns:
          How many entries were taken.

        Raises:
          BrokerError: The server cannot be reached or refused. Call again.
        """
        reads = link.send("HGETALL", self._members.reads(consumer))
        sources = [source for record in reads[1::2] for source in decode_reads(record)]
        taken = sum(self._reclaim_source(link, one, consumer, fence=fence) for one in sources)
        link.run(scripts.forget(self._members, consumer))
        if taken:
            self.logger.info("Took %d entries that %s held.", taken, consumer)
        return taken

    def _reclaim_source(self, link: Link, source: ReadSource, consumer: str, *, fence: bool) -> int:
        taken = 0
        more = True
        while more:
            page = link.run(
                scripts.reclaim(
                    source.keys,
                    name=source.name,
                    group=source.group,
                    consumer=consumer,
                    is_log=source.is_log,
                    fence=fence,
                    max_deliveries=self._max_deliveries,
                    page=PAGE,
                )
            )
            if page.dead_lettered:
                self.logger.error(
                    "%s: %d entries killed their worker %d times; dead-lettered.",
                    source.name,
                    page.dead_lettered,
                    self._max_deliveries,
                )
            taken += page.handed_back + page.suspects
            more = page.more
        return taken

    def _gone(self, link: Link, others: dict[str, Connection]) -> dict[str, Connection]:
        """Those of `others` whose connection the server does not have."""
        if not others:
            return {}
        ids = [client_id for _, client_id in others.values()]
        try:
            listed = link.send("CLIENT", "LIST", "ID", *ids).decode()
        except BrokerConnectionError:
            raise
        except PermissionDenied:
            self.logger.info("No permission for CLIENT LIST: deaths are found by silence only.")
            self._may_look = False
            return {}
        living = {int(line.split(" ", 1)[0].removeprefix("id=")) for line in listed.splitlines()}
        return {who: at for who, at in others.items() if at[1] not in living}

    def _reported_again(self, link: Link, consumer: str, gone: Connection) -> bool:
        """Whether a living process has connected again since."""
        reported = link.send("HGET", self._members.clients, consumer)
        if reported is None:
            return True  # it has left
        run_id, client_id = reported.decode().split(" ")
        now = (run_id, int(client_id))
        self._clients[consumer] = now
        return now != gone

    def _sweep(self, link: Link) -> None:
        """Finds consumers that hold entries but are listed nowhere: the list itself was lost."""
        listed = {name.decode() for name in link.send("ZRANGE", self._members.seen, 0, -1)}
        reads = link.send("HGETALL", self._members.reads(self._identity.consumer))
        for source in (one for record in reads[1::2] for one in decode_reads(record)):
            try:
                infos = link.send("XINFO", "CONSUMERS", source.keys.entries, source.group)
            except BrokerConnectionError:
                raise
            except BrokerError as error:
                # Its intake makes the group anew, and says so.
                self.logger.debug("Cannot look at the consumers of %s: %s", source.name, error)
                continue
            for info in infos:
                fields = dict(zip(info[::2], info[1::2], strict=True))
                name = fields[b"name"].decode()
                if name != "__free__" and name not in listed:
                    self.logger.warning("%s: consumer %s is listed nowhere.", source.name, name)
                    self._reclaim_source(link, source, name, fence=True)
