"""The reclaimer: finds dead processes and hands back what they held.

It runs in the heartbeat thread of the one process that has the lease. A process is believed dead

- when it was silent for `SILENCE_S` while we were in touch with the server all the time (after an
  outage everybody seems to have been silent), or
- when `CLIENT LIST ID` no longer shows its connection, twice, `BELIEVE_S` apart, and it has not
  reported another one: only for connections to the same run of the server as ours, since a restart
  makes all of them vanish; and only where the user may run that command.

Those that do not have the lease look at the holder's connection in the same way, and the first one
that believes it dead, or gone, takes its place. The holder is told of newcomers at once, and looks
at them from then on; see `arrivals`.

Each stream that it read is fenced for it first, then its entries are taken, in log order. A
reclaimer that dies in the middle leaves the dead consumer listed, so the next one goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from dramatiq.logging import get_logger

from ..errors import BrokerConnectionError, BrokerError, PermissionDenied
from . import ownership_scripts, scripts
from .connections import Link
from .identity import Identity
from .keys import MemberKeys
from .members import ReadSource, decode_reads
from .scripts import Alive, Heartbeat

__all__ = ["Reclaimer"]

#: Seconds of silence after which a process is dead. A handler that keeps the interpreter's lock
#: delays the heartbeat: six seconds more than the interval between two are forgiven.
SILENCE_S = 9.0
#: Share of it that we must have seen ourselves: more than one heartbeat's interval.
WITNESSED = 0.4
#: Seconds of silence, as a share of `SILENCE_S`, after which a process is looked at in time.
LATE = 0.4
#: Longest time between two heartbeats of ours for which we count as in touch with the server. With
#: one more heartbeat's interval it is no more than `SILENCE_S`, so that a server that hangs makes
#: nobody look dead.
TOUCH_S = 6.0
#: Seconds between two looks at the connections.
LOOK_S = 1.0
#: Seconds between noticing that a connection is gone and believing it.
BELIEVE_S = 0.5
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
      own_reads: What this process reads.
      max_deliveries: How often an entry may be in the hands of a dying worker.
      housekeeping: Called with every sweep; raises nothing but BrokerConnectionError.
    """

    def __init__(
        self,
        members: MemberKeys,
        identity: Identity,
        own_reads: Callable[[], list[ReadSource]],
        *,
        max_deliveries: int,
        housekeeping: Callable[[Link], object] = lambda _: None,
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self._housekeeping = housekeeping
        self._members = members
        self._identity = identity
        self._own_reads = own_reads
        self._max_deliveries = max_deliveries
        self._ours: Connection | None = None
        self._leading = False
        #: Consumers whose connections are looked at, and what we know of them.
        self._watched: dict[str, Connection] = {}
        self._may_look = True
        self._next_look = 0.0
        self._next_sweep = 0.0
        self._missing: dict[str, Connection] = {}
        #: Dead ones whose entries could not be taken; said once.
        self._unburied: set[str] = set()
        #: Since when we have been in touch with the server, and when we last were.
        self._in_touch_since: float | None = None
        self._last_beat = 0.0
        #: Everybody's last heartbeat, and since when we know it, monotonic clock.
        self._beats: dict[str, tuple[int, float]] = {}
        #: The holder of the lease, once it is believed dead; else empty.
        self.dead_reclaimer = ""
        #: Whether the holder of the lease has left: its place is free.
        self._vacant = False
        #: Monotonic time at which somebody will have been silent for too long, if known.
        self._next_judgement: float | None = None

    @property
    def leading(self) -> bool:
        """Whether this process had the lease at its last heartbeat."""
        return self._leading

    @property
    def wants_heartbeat(self) -> bool:
        """Whether the next heartbeat should come now: to take the lease, or to judge."""
        judge = self._next_judgement is not None and time.monotonic() >= self._next_judgement
        return bool(self.dead_reclaimer) or self._vacant or judge

    @property
    def next_judgement(self) -> float | None:
        """Monotonic time at which `wants_heartbeat` becomes true by itself."""
        return self._next_judgement

    def arrived(self, who: dict[str, Connection | None]) -> None:
        """These have connected just now: they are looked at from now on."""
        for consumer, connection in who.items():
            if self._ours is None or connection is None or connection[0] != self._ours[0]:
                continue
            if self._leading and consumer != self._identity.consumer:
                self._watched[consumer] = connection

    def told(self, link: Link, beat: Heartbeat, ours: Connection | None) -> None:
        """Takes in a heartbeat's reply; reclaims what it shows to be dead.

        Raises:
          BrokerError: The server cannot be reached or refused.
        """
        self._reclaim_lost(link)
        now = time.monotonic()
        if self._in_touch_since is None or now - self._last_beat > TOUCH_S:
            self._in_touch_since = now
        self._last_beat = now
        before, self._beats = self._beats, {}
        for consumer, alive in beat.alive.items():
            last, since = before.get(consumer, (None, now))
            self._beats[consumer] = alive.beat_ms, since if last == alive.beat_ms else now
        self._ours = ours
        self._watched = {
            consumer: alive.connection
            for consumer, alive in beat.alive.items()
            if alive.connection is not None
            and ours is not None
            and alive.connection[0] == ours[0]
            and consumer != self._identity.consumer
        }
        succeeded, self.dead_reclaimer = self.dead_reclaimer, ""
        self._vacant = False
        self._next_judgement = None
        self._leading = beat.is_reclaimer
        if not self._leading:
            self._next_sweep = 0.0
            return
        if succeeded:
            self._bury(link, succeeded, "has died")
        if now - self._in_touch_since > SILENCE_S:
            self._judge(link, beat, without=succeeded)
        if time.monotonic() >= self._next_sweep:
            self._sweep(link, set(beat.alive))
            self._housekeeping(link)
            self._next_sweep = time.monotonic() + SWEEP_S

    def _judge(self, link: Link, beat: Heartbeat, *, without: str) -> None:
        """Buries who was silent for too long; sees to it that the others are judged in time."""
        for consumer, alive in beat.alive.items():
            if consumer in (self._identity.consumer, without):
                continue
            silent_s = (beat.now_ms - alive.beat_ms) / 1000
            witnessed_at = self._beats[consumer][1] + WITNESSED * SILENCE_S
            if silent_s > SILENCE_S and time.monotonic() < witnessed_at:
                # The server's clock may have been set: who lives beats meanwhile.
                at = witnessed_at
                if self._next_judgement is None or at < self._next_judgement:
                    self._next_judgement = at
            elif silent_s > SILENCE_S:
                self._bury(link, consumer, f"was silent for {silent_s:.1f} s")
            elif silent_s > LATE * SILENCE_S:
                at = time.monotonic() + SILENCE_S - silent_s + 0.01
                if self._next_judgement is None or at < self._next_judgement:
                    self._next_judgement = at

    def _reclaim_lost(self, link: Link) -> None:
        """Takes what was read under names of ours that were fenced."""
        lost = self._identity.take_lost()
        try:
            while lost:
                # What the server knew of this name may be forgotten already.
                for source in self._own_reads():
                    self._reclaim_source(link, source, lost[0], fence=True)
                self.reclaim(link, lost[0], fence=True)
                del lost[0]
        finally:
            for consumer in lost:
                self._identity.fenced(consumer)  # again with the next heartbeat

    def pause(self) -> None:
        """The connection is lost: what we know of the others may be wrong by now."""
        self._watched = {}
        self._missing = {}
        self._leading = False
        self._next_sweep = 0.0
        self._in_touch_since = None
        self._vacant = False
        self._next_judgement = None

    def look(self, link: Link) -> float | None:
        """Looks for connections that are gone, if it is time; returns when to look again.

        Raises:
          BrokerError: The server cannot be reached or refused.
        """
        if not self._watched or not self._may_look:
            return None
        now = time.monotonic()
        if now < self._next_look:
            return self._next_look
        gone = self._gone(link)
        for consumer in [one for one in gone if self._missing.get(one) == gone[one]]:
            if self._reported_again(link, consumer, gone.pop(consumer)):
                continue
            del self._watched[consumer]
            if self._leading:
                self._bury(link, consumer, "has died")
            else:
                self.dead_reclaimer = consumer
        self._missing = gone
        self._next_look = now + (BELIEVE_S if gone else LOOK_S)
        return self._next_look

    def _bury(self, link: Link, consumer: str, why: str) -> None:
        try:
            taken = self.reclaim(link, consumer, fence=True)
        except BrokerConnectionError:
            raise
        except Exception:
            # One that cannot be taken must not keep the others from it.
            if consumer not in self._unburied:
                self.logger.exception(
                    "%s %s, and what it held cannot be taken. Trying on.", consumer, why
                )
            self._unburied.add(consumer)
            return
        self._unburied.discard(consumer)
        self.logger.warning("%s %s; %d entries that it held run elsewhere.", consumer, why, taken)

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
        for queue in (name.decode() for name in reads[::2]):
            # They were woken before it was off the list, and may have left it its share.
            if link.send("HEXISTS", self._members.claimants(queue), consumer):
                link.run(ownership_scripts.resign(self._members, queue, consumer))
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

    def _gone(self, link: Link) -> dict[str, Connection]:
        """Those that we watch whose connection the server does not have."""
        ids = [client_id for _, client_id in self._watched.values()]
        try:
            listed = link.send("CLIENT", "LIST", "ID", *ids).decode()
        except BrokerConnectionError:
            raise
        except PermissionDenied:
            self.logger.info("No permission for CLIENT LIST: deaths are found by silence only.")
            self._may_look = False
            return {}
        living = {int(line.split(" ", 1)[0].removeprefix("id=")) for line in listed.splitlines()}
        return {who: at for who, at in self._watched.items() if at[1] not in living}

    def _reported_again(self, link: Link, consumer: str, gone: Connection) -> bool:
        """Whether a living process has connected again since."""
        reported = link.send("HGET", self._members.alive, consumer)
        if reported is None:
            # It has left. The place of one that has the lease is free.
            self._watched.pop(consumer, None)
            self._vacant = not self._leading
            return True
        now = Alive.parse(reported).connection
        if now is None or now == gone:
            return False
        self._watched[consumer] = now
        return True

    def _sweep(self, link: Link, listed: set[str]) -> None:
        """Finds consumers that hold entries but are listed nowhere: the list itself was lost."""
        for source in self._own_reads():
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
                if name == "__free__" or name in listed:
                    continue
                # Who reads is listed before it reads: one that came meanwhile is listed by now.
                if link.send("HEXISTS", self._members.alive, name):
                    continue
                self.logger.warning("%s: consumer %s is listed nowhere.", source.name, name)
                self._reclaim_source(link, source, name, fence=True)
