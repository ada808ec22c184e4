"""Which partitions of an ordered subscription this process reads.

A partition of a subscription has one owner at a time. There is no lease to renew: an owner owns
until it gives the partition up, or is declared dead, which fences its name and frees what it owned
in the same step (`reclaim.lua`). Only the owner's fetches find anything (`fetch.lua` looks), so
nobody else's, nor those of somebody who was declared dead, can claim what is behind.

Those that want a share are listed; when one comes, leaves, or gives a partition up, all others are
woken, look at who owns what, and come to the same division of it (`fair_shares`). Who has too much
gives some up at once: what it has claimed and not begun is handed back, what runs goes on. The new
owner is told what is still claimed by others or waits for a retry, and lets nothing of those keys
pass before it has run or is settled.

Not thread-safe: the reader's thread alone uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dramatiq.logging import get_logger

from . import ownership_scripts, scripts
from .buffer import Buffer
from .claimed import Claimed
from .connections import Link
from .fair_shares import fair_shares
from .in_flight import InFlight
from .keys import MemberKeys
from .ownership_scripts import Owned
from .payloads import with_event
from .sources import Source

__all__ = ["Ownership", "Partition", "with_event"]

#: How often an entry may be in the hands of a dying worker; see `process`.
MAX_DELIVERIES = 5
#: Entries read, or asked for, in one go.
PAGE = 200


@dataclass(slots=True)
class Partition:
    """A partition that this process owns."""

    #: The last entry id that was read.
    last: bytes
    #: The newest wake-up that was seen.
    woken: bytes
    epoch: int
    #: Keys of entries that another process, or a handler that runs on here, still has.
    elsewhere: dict[bytes, str] = field(default_factory=dict)


class Ownership:
    """The partitions of one subscription in one process.

    Parameters:
      name: The subscription.
      sources: All its partitions.
      members: Where those that want a share are listed.
      in_flight: What this process holds.
      buffer: Where entries wait; its shelf has gates.
      hand_back: Gives back entries that were not run.
      clock_ns: Wall clock, ns.
    """

    def __init__(
        self,
        name: str,
        sources: Sequence[Source],
        *,
        members: MemberKeys,
        in_flight: InFlight,
        buffer: Buffer,
        hand_back: Callable[[Sequence[Claimed]], None],
        clock_ns: Callable[[], int],
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self._name = name
        self._sources = list(sources)
        self._members = members
        self._in_flight = in_flight
        self._buffer = buffer
        self._hand_back = hand_back
        self._clock_ns = clock_ns
        self.owned: dict[Source, Partition] = {}
        #: Given up here, and perhaps not on the server: its answer was lost.
        self._half_given_up: set[Source] = set()
        #: The newest wake-up of all claimants that was seen.
        self.shift = b"0-0"

    def lose_all(self) -> None:
        """Nothing is its own any more; what waits is handed back. If its name is fenced, what was
        claimed under it must be out of the buffer already."""
        for source in list(self.owned):
            waiting = self._lose(source)
            if waiting:
                self._hand_back(waiting)

    def lost(self, source: Source) -> None:
        """Somebody else owns `source`: what waits here is theirs to run."""
        self.logger.warning("%s of %s has another owner.", source.name, self._name)
        self._hand_back(self._lose(source))

    def _lose(self, source: Source) -> list[Claimed]:
        self.owned.pop(source, None)
        return self._buffer.disown(source)

    def again(self, link: Link, consumer: str) -> None:
        """The connection was lost, perhaps with a fetch's reply: finds what was claimed by it.

        Raises:
          BrokerError: The server cannot be reached or refused.
        """
        for source in list(self.owned):
            if not self._own(link, source, consumer):
                self.lost(source)

    def share(self, link: Link, consumer: str) -> bool:
        """Gives up what is too much, takes what is free; returns whether any was taken.

        Raises:
          BrokerError: The server cannot be reached or refused.
        """
        gave_up = bool(self._half_given_up)
        for source in list(self._half_given_up):
            self._disown(link, source, consumer)
        found = link.run(ownership_scripts.claimants(self._members, self._name))
        self.shift = found.shift
        replies = link.send_many([("GET", source.keys.owner) for source in self._sources])
        owners = [None if not isinstance(reply, bytes) else reply.decode() for reply in replies]
        wanted = fair_shares(owners, [*found.names, consumer])
        took = False
        for source, owner, wants in zip(self._sources, owners, wanted, strict=True):
            mine = source in self.owned
            if mine and owner != consumer:
                self.lost(source)
            elif mine and wants != consumer:
                self._give_up(link, source, consumer)
                gave_up = True
            elif not mine and wants == consumer:
                if owner is not None and owner != consumer and owner not in found.names:
                    self._free(link, source, owner)
                took = self._own(link, source, consumer) or took
        if gave_up:
            link.run(ownership_scripts.resign(self._members, self._name))
        return took

    def leave(self, link: Link, consumer: str) -> None:
        """Gives up everything, and claims no share any more.

        Raises:
          BrokerError: The server cannot be reached or refused; who is next gets it when this
            process signs off, or is found dead.
        """
        for source in list(self._half_given_up):
            self._disown(link, source, consumer)
        for source in list(self.owned):
            self._give_up(link, source, consumer)
        link.run(ownership_scripts.resign(self._members, self._name, consumer))

    def look_elsewhere(self, link: Link) -> None:
        """Asks what became of entries that others had when their partition became ours.

        Raises:
          BrokerError: The server cannot be reached or refused.
        """
        for source, partition in self.owned.items():
            for page in _pages(list(partition.elsewhere)):
                who = link.run(ownership_scripts.whereabouts(source.keys, self._name, page))
                for entry_id, consumer in zip(page, who, strict=True):
                    if consumer and consumer != "__free__":
                        continue
                    key = partition.elsewhere.pop(entry_id)
                    if not consumer:
                        self._buffer.gone(source, key, [entry_id])

    @property
    def waits_for_others(self) -> bool:
        """Whether entries are elsewhere."""
        return any(one.elsewhere for one in self.owned.values())

    def verify(self, link: Link) -> None:
        """Forgets what is expected and will not come: it was settled by hand, for example.

        Raises:
          BrokerError: The server cannot be reached or refused.
        """
        for source in self.owned:
            for key, ids in self._buffer.expected(source).items():
                for page in _pages(ids):
                    who = link.run(ownership_scripts.whereabouts(source.keys, self._name, page))
                    gone = [one for one, consumer in zip(page, who, strict=True) if not consumer]
                    if gone:
                        self._buffer.gone(source, key, gone)

    # -- parts ---------------------------------------------------------------------------------

    def _give_up(self, link: Link, source: Source, consumer: str) -> None:
        waiting = self._lose(source)
        if waiting:
            self._hand_back(waiting)
        self._half_given_up.add(source)
        self._disown(link, source, consumer)
        self.logger.info("%s gives up %s (%d waiting).", self._name, source.name, len(waiting))

    def _disown(self, link: Link, source: Source, consumer: str) -> None:
        link.run(ownership_scripts.disown(source.keys, consumer))
        self._half_given_up.discard(source)

    def _free(self, link: Link, source: Source, owner: str) -> None:
        """Frees a partition whose owner is listed nowhere: the list itself was lost."""
        if link.send("HEXISTS", self._members.alive, owner):
            return
        self.logger.warning("%s: its owner %s is listed nowhere.", source.name, owner)
        more = True
        while more:
            page = link.run(
                scripts.reclaim(
                    source.keys,
                    name=source.name,
                    group=self._name,
                    consumer=owner,
                    is_log=True,
                    fence=True,
                    max_deliveries=MAX_DELIVERIES,
                    page=PAGE,
                )
            )
            more = page.more

    def _own(self, link: Link, source: Source, consumer: str) -> bool:
        held = self._in_flight.held_of(source, consumer)
        owned = link.run(ownership_scripts.own(source.keys, self._name, consumer))
        if owned.fenced or owned.owner:
            return False
        known = self.owned.get(source)
        lost = [one for one, who in owned.elsewhere.items() if who == consumer and one not in held]
        elsewhere = [one for one in owned.elsewhere if one not in lost]
        if known is not None:
            # What runs here is known to the gates already.
            elsewhere = [one for one in elsewhere if owned.elsewhere[one] != consumer]
        keys = self._keys(link, source, [*owned.expected, *elsewhere])
        expected: dict[str, list[bytes]] = {}
        for entry_id, key in keys.items():
            expected.setdefault(key, []).append(entry_id)
        partition = Partition(owned.last, owned.woken, owned.epoch)
        partition.elsewhere = {one: keys[one] for one in elsewhere if one in keys}
        self._buffer.own(source, consumer, expected.items())
        self.owned[source] = partition
        self._recover(link, source, consumer, lost)
        if known is None:
            self._say(source, owned, len(lost))
        return True

    def _say(self, source: Source, owned: Owned, lost: int) -> None:
        self.logger.info(
            "%s owns %s (epoch %d; %d wait for a retry, %d are elsewhere).",
            self._name,
            source.name,
            owned.epoch,
            len(owned.expected),
            len(owned.elsewhere) - lost,
        )

    def _keys(self, link: Link, source: Source, ids: Sequence[bytes]) -> dict[bytes, str]:
        """The keys of entries; those that are gone, or no events, are left out."""
        keys: dict[bytes, str] = {}
        for one in self._read(link, source, "", ids):
            decoded = with_event(one)
            if decoded.order_key is not None:
                keys[one.entry_id] = decoded.order_key
        return keys

    def _recover(self, link: Link, source: Source, consumer: str, ids: Sequence[bytes]) -> None:
        if not ids:
            return
        self.logger.warning(
            "%s: %d entries were claimed by a read whose reply was lost.", source.name, len(ids)
        )
        found = self._read(link, source, consumer, ids)
        self._buffer.put([with_event(one) for one in found])

    def _read(
        self, link: Link, source: Source, consumer: str, ids: Sequence[bytes]
    ) -> list[Claimed]:
        """Entries with their retry state, in their order."""
        found: list[Claimed] = []
        now_ns = self._clock_ns()
        for page in _pages(ids):
            options, *entries = link.send_many(
                [
                    ("HMGET", source.keys.options, *page),
                    *(("XRANGE", source.keys.entries, one, one) for one in page),
                ]
            )
            for entry_id, text, entry in zip(page, options, entries, strict=True):
                if entry:
                    fields = entry[0][1]
                    found.append(Claimed(source, consumer, entry_id, fields, text, now_ns))
        return found


def _pages(ids: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [ids[at : at + PAGE] for at in range(0, len(ids), PAGE)]
