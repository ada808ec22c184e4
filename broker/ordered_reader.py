"""The reading of an ordered subscription: only of the partitions that this process owns.

It differs from the other reader in three things. It reads what it owns (`Ownership`). It never
blocks in XREADGROUP: a read that is under way when its process is declared dead could claim an
entry, and the new owner would go past it; so it blocks in XREAD, which claims nothing, and then
fetches. And what it claimed with a reply that was lost it takes at once and in its place, not by
handing it back.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

import redis

from .buffer import PAUSED
from .claimed import Claimed
from .connections import Alarm
from .faults import translated
from .groups import ensure_groups
from .ownership import Ownership
from .payloads import with_event
from .reader import BLOCK_MS, COMPARE_S, Reader, Wake
from .scripts import Fetched, peek

__all__ = ["OrderedReader"]

#: Seconds between two looks at who owns what, while there is always something to read.
SHARE_S = 0.5
#: Milliseconds between two looks at what others still have of a partition that became ours. They
#: wake us; this is for wake-ups that are lost.
ELSEWHERE_MS = 200
#: Entries that were parked or handed back, and are taken at a time though there is no room.
ROOM_TO_RETURN = 100


class OrderedReader(Reader):
    """See the module. Parameters as of `Reader`; the buffer's shelf has gates."""

    claims = True
    closed_s = SHARE_S

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ownership = Ownership(
            self.name,
            self.sources,
            members=self._members,
            in_flight=self._in_flight,
            buffer=self._buffer,
            hand_back=self._hand_back,
            clock_ns=self._clock_ns,
        )
        self._next_share = 0.0
        #: The name under which it owns what it owns.
        self._owner = ""

    def begin(self) -> None:
        """As of the base class; takes what was claimed by a fetch whose reply was lost.

        Raises:
          BrokerError: The server cannot be reached or refused.
        """
        super().begin()
        self._next_compare = time.monotonic() + COMPARE_S
        self._next_share = 0.0
        if self._owner == self._identity.consumer:
            self._ownership.again(self._link, self._owner)

    def read(self) -> None:
        """Looks after the partitions, and reads those that are its own.

        Raises:
          BrokerError: The server cannot be reached or refused.
        """
        if self._buffer.is_paused():
            self._pause()
            return
        self._in_flight.wait_for_turn()
        consumer = self._identity.consumer
        if consumer != self._enlisted:
            self._enlist(consumer)
        now = time.monotonic()
        if now >= self._next_share:
            self._ownership.share(self._link, consumer)
            self._next_share = now + SHARE_S
        if now >= self._next_compare:
            self._ownership.verify(self._link)
            self._next_compare = now + COMPARE_S
            self._next_share = 0.0  # a wake-up may have been lost with who should have sent it
        if not self._ownership.owned:
            self._has_read()
            self._wait(None, consumer)
        elif not self._is_closed():
            self._read_own(consumer)

    def leave(self) -> None:
        """Gives up what it owns. After its thread has ended.

        Raises:
          BrokerError: The server cannot be reached or refused.
        """
        if self._owner:
            self._ownership.leave(self._link, self._owner)

    def _pause(self) -> None:
        self._hand_back(self._buffer.drain())
        self.leave()
        self._enlisted = None
        self._next_share = 0.0
        self._buffer.wait_for_resume()

    def _enlist(self, consumer: str) -> None:
        if self._owner != consumer:
            # What runs goes on, and cannot commit; nothing else of that name is ours.
            super()._enlist(consumer)
            self._ownership.lose_all()
            self._owner = consumer
        else:
            super()._enlist(consumer)
        self._next_share = 0.0

    def _read_own(self, consumer: str) -> None:
        room = self._buffer.wait_for_room(SHARE_S)
        if room == PAUSED or room <= 0:
            self._has_read()
            if self._buffer.is_clogged() and not self._stopping.is_set():
                self._let_go_on(consumer)
            return
        owned = list(self._ownership.owned)
        fetched, taken = self._fetch(owned, consumer, room)
        if fetched.error.startswith("LOST "):
            self._ownership.lost(owned[int(fetched.error[5:]) - 1])
            self._next_share = 0.0
        elif fetched.error:
            self._failed(fetched, consumer)
        elif taken == 0 and fetched.next_due_ms != 0:
            if self._wait(fetched, consumer) is Wake.ARRIVED:
                again, taken = self._fetch(owned, consumer, room)
                if taken == 0 and not again.error:
                    # Somebody has read it who does not ask who owns it: look where the group is.
                    self._ownership.again(self._link, consumer)
        else:
            # Busy; what others had may be free by now.
            self._ownership.look_elsewhere(self._link)
        if fetched.suspects:
            self._run_suspects(consumer)

    def _failed(self, fetched: Fetched, consumer: str) -> None:
        if "FENCED" not in fetched.error:  # else: when it is listed under its new name
            self._ownership.lose_all()
        self._next_share = 0.0
        self._on_error(fetched.error, consumer)

    def _let_go_on(self, consumer: str) -> None:
        """Full of what waits for others, which must be let in all the same."""
        self._ownership.look_elsewhere(self._link)
        owned = list(self._ownership.owned)
        fetched, _ = self._fetch(owned, consumer, ROOM_TO_RETURN, nothing_new=True)
        if fetched.error.startswith("LOST "):
            self._ownership.lost(owned[int(fetched.error[5:]) - 1])
            self._next_share = 0.0
        elif fetched.error:
            self._failed(fetched, consumer)
        if fetched.suspects:
            self._run_suspects(consumer)

    def _keep(self, sources: Sequence[Any], fetched: Fetched, consumer: str) -> int:
        for block in fetched.blocks:
            partition = self._ownership.owned.get(sources[block.source])
            if partition is not None and block.entries and not block.options:
                partition.last = block.entries[-1][0]
        return super()._keep(sources, fetched, consumer)

    def _put(
        self, claimed: list[Claimed], cancellations: bool, again: Collection[bytes] = ()
    ) -> None:
        super()._put([with_event(one) for one in claimed], cancellations, again)

    def _take_suspect(self, consumer: str) -> bool:
        owned = list(self._ownership.owned)
        return bool(owned) and self._fetch(owned, consumer, 1, alone=True)[1] > 0

    def _on_error(self, text: str, consumer: str) -> None:
        if "NOGROUP" in text:
            self.logger.warning("%s: a stream or group was deleted; making it anew.", self.name)
            ensure_groups(self._link, self.sources, self._start)
        else:
            super()._on_error(text, consumer)

    # -- waiting -------------------------------------------------------------------------------

    def _wait(self, fetched: Fetched | None, consumer: str) -> Wake:
        """Waits for an entry, a wake-up, the next due time, or a change of owners."""
        due_s = None
        if fetched is not None and fetched.next_due_ms is not None:
            due_s = time.monotonic() + (fetched.next_due_ms - fetched.now_ms) / 1000
        until = self._next_compare
        while not self._stopping.is_set() and consumer == self._identity.consumer:
            now = time.monotonic()
            if due_s is not None:
                until = min(until, due_s)
            if now >= until or self._buffer.is_paused():
                return Wake.TIMED_OUT
            block_ms = min(int((until - now) * 1000) + 1, BLOCK_MS)
            alarm = None
            if due_s is not None and block_ms < BLOCK_MS:
                alarm = Alarm(due_s, self._interrupt)
            if self._ownership.waits_for_others:
                block_ms = min(block_ms, ELSEWHERE_MS)
                alarm = None
            changes = self._buffer.changes
            ended = self._block_in_xread(block_ms, alarm)
            self._ownership.look_elsewhere(self._link)
            if ended is not Wake.TIMED_OUT or changes != self._buffer.changes:
                return ended
            if self._ownership.owned:
                due_ms = self._link.run(peek([one.keys for one in self._ownership.owned], None))
                due_s = None if due_ms is None else time.monotonic() + due_ms / 1000
            else:
                self._next_share = 0.0
                return ended
        return Wake.TIMED_OUT

    def _block_in_xread(self, block_ms: int, alarm: Alarm | None) -> Wake:
        """Waits; ARRIVED if there are entries to fetch."""
        ownership = self._ownership
        shift = self._members.shift(self.name)
        after: dict[str, bytes] = {}
        for source, partition in ownership.owned.items():
            after[source.keys.entries] = partition.last
            after[source.keys.wake] = partition.woken
        after[shift] = ownership.shift
        read = ("XREAD", "COUNT", 1, "BLOCK", block_ms, "STREAMS", *after, *after.values())
        (reply,) = self._link.send_many([read], alarm=alarm)
        if isinstance(reply, redis.ResponseError):
            if "UNBLOCKED" in str(reply):
                return Wake.WOKEN
            with translated(self._link.endpoint.shown, read):
                raise reply
        self._has_read()
        ended = Wake.TIMED_OUT
        by_wake = {source.keys.wake.encode(): one for source, one in ownership.owned.items()}
        for key, entries in reply or ():
            newest = entries[-1][0]
            if key == shift.encode():
                ownership.shift = newest
                self._next_share = 0.0
            elif key in by_wake:
                by_wake[key].woken = newest
            else:
                return Wake.ARRIVED
            ended = Wake.WOKEN
        return ended
