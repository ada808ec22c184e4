"""The reading of one queue or subscription: fetches, blocking reads, comparisons, suspects.

While there is room, `fetch` takes entries: those handed back or due first, then new ones. When
nothing is there the reader blocks in XREADGROUP, with COUNT 1 and until the next parked entry is
due, and what wakes it is handed on at once. `wake` streams are read beside the sources: a script
that makes something due earlier, or hands entries back, adds to one of them, which wakes exactly
one reader of the group.

Not thread-safe: the intake's thread alone uses a `Reader`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from enum import Enum

from dramatiq.logging import get_logger

from ..errors import CommandFailed
from . import scripts
from .blocking import blocking_read
from .buffer import PAUSE_S, PAUSED, Buffer
from .cancelling import without_cancelled
from .claimed import Claimed
from .connections import Alarm, Link
from .done_marks import marked_done
from .gatekeeping import Gatekeeper
from .groups import ensure_groups, wake_keys
from .identity import Identity
from .in_flight import InFlight
from .keys import MemberKeys
from .members import encode_reads
from .scripts import DelayedKeys, Fetched
from .settlements import CANCELLED, CONFLATED, Ended
from .shelf import MAX_WAITING
from .sources import Source
from .suspects import Suspects, Turn

__all__ = ["BLOCK_MS", "Reader", "Wake"]

#: Longest wait for new entries, ms. What a lost wake-up costs at most.
BLOCK_MS = 8_000
#: Seconds between two comparisons of what the server counts as ours with what we hold; also the
#: longest time without a fetch. A reply that is lost with its connection is looked for at once.
COMPARE_S = 60.0
#: Seconds until the second comparison, which decides, when the first one found something.
DOUBT_S = 1.0
#: Seconds that a blocking read waits, at least, if there was nothing to read when it began.
QUIET_S = 0.0003
#: Pending entries looked at in one comparison: more than one process holds.
COMPARED = 10_000
#: Longest wait for a guard to open, seconds: a change of the guards ends it.
CLOSED_S = 8.0


class Wake(Enum):
    """How a blocking read ended."""

    #: With entries, which are in the buffer.
    ARRIVED = "arrived"
    #: With a wake-up or an error: fetch.
    WOKEN = "woken"
    TIMED_OUT = "timed_out"


class Reader:
    """Reads one queue or subscription into a buffer.

    Attributes:
      claims: Whether it shares the partitions with others, each reading its own only.

    Parameters:
      name: The queue, or subscription.
      sources: In the order in which they are read.
      start: Entry id from which a new group reads: `$` (new entries only) or `0`.
      delayed: Keys of a work queue's delayed messages; None for a subscription.
      rotate: Whether the sources take turns in being first (partitions) or not (lanes).
      members: Where this consumer says what it reads, before it reads.
      identity: This process's consumer name.
      in_flight: What this process holds.
      hand_back: Takes entries that this process claimed without knowing, to hand them back.
      end: Takes entries that nobody runs, to settle them so.
      link: The connection.
      interrupt: Ends the link's blocking read, from another connection.
      buffer: Where entries go.
      gatekeeper: Tells whether the queue may be read.
      prepare: Given what one read has brought, returns the same with what it has found out about it
        for all at once. Raises nothing; called in this thread.
      window_ms: How long a publish id is kept at least.
      stopping: Set when nothing is to be read any more.
      clock_ns: Wall clock, ns.
    """

    claims = False
    closed_s = CLOSED_S

    def __init__(
        self,
        name: str,
        sources: Sequence[Source],
        *,
        start: str,
        delayed: DelayedKeys | None,
        rotate: bool,
        members: MemberKeys,
        identity: Identity,
        in_flight: InFlight,
        hand_back: Callable[[Sequence[Claimed]], None],
        end: Callable[[Sequence[Claimed], Ended], None],
        link: Link,
        interrupt: Callable[[], None],
        buffer: Buffer,
        gatekeeper: Gatekeeper,
        prepare: Callable[[list[Claimed]], list[Claimed]],
        window_ms: int,
        stopping: threading.Event,
        clock_ns: Callable[[], int],
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self.name = name
        self.sources = list(sources)
        #: Reads that have ended, with or without entries.
        self.reads = 0
        #: Why the last one failed; empty if it did not.
        self.trouble = ""
        self._start = start
        self._delayed = delayed
        self._rotate = rotate
        self._members = members
        self._identity = identity
        self._enlisted: str | None = None
        self._in_flight = in_flight
        self._hand_back = hand_back
        self._end = end
        self._link = link
        self._interrupt = interrupt
        self._buffer = buffer
        self._gatekeeper = gatekeeper
        self._prepare = prepare
        self._clogged = False
        self._window_ms = window_ms
        self._stopping = stopping
        self._next_compare = 0.0
        self._suspects = Suspects(in_flight)
        self._clock_ns = clock_ns
        self._passed_on_ms = 0

    def begin(self) -> None:
        """Makes the groups, on a new connection.

        Raises:
          BrokerError: The server cannot be reached or refused.
        """
        self._enlisted = None  # the server may have lost its memory
        self._next_compare = 0.0
        ensure_groups(self._link, self.sources, self._start)
        # A group that was there and is not any more is made anew from the beginning: what was
        # published meanwhile is not skipped.
        self._start = "0"

    def read(self) -> None:
        """Waits for room, and fills it: one fetch, and where that finds nothing, blocking reads.

        Raises:
          BrokerError: The server cannot be reached or refused. What was claimed is found by the
            comparison of pending entries.
        """
        room = self._buffer.wait_for_room()
        if room == PAUSED:
            self._hand_back(self._buffer.drain())
            # Its blocking read may have taken a wake-up that was meant for one who works.
            self._link.send("XADD", wake_keys(self.sources)[0], "MAXLEN", 16, "*", "w", 1)
            self._buffer.wait_for_resume()
        if room <= 0 or self._is_closed():
            return
        self._in_flight.wait_for_turn()
        consumer = self._identity.consumer
        if consumer != self._enlisted:
            self._enlist(consumer)
        if time.monotonic() >= self._next_compare:
            self._compare(consumer)
        fetched, taken = self._fetch(self.sources, consumer, room)
        if self._rotate and len(self.sources) > 1:
            self.sources = [*self.sources[1:], self.sources[0]]
        if fetched.error:
            self._on_error(fetched.error, consumer)
        elif taken == 0 and fetched.next_due_ms != 0:
            self._wait_for_entries(fetched, consumer)
        if fetched.suspects:
            self._run_suspects(consumer)

    def _is_closed(self) -> bool:
        """Whether nothing of this queue may run; then waits until that may have changed."""
        if self._gatekeeper.quiet:
            return False
        changes = self._buffer.changes
        until = self._gatekeeper.closed_until()
        if until is None:
            return False
        self._hand_back(self._buffer.drain())
        self._has_read()
        wait_s = max(0.0, min(until - time.monotonic(), self.closed_s))
        self._buffer.wait_for_change(changes, wait_s)
        return True

    def _enlist(self, consumer: str) -> None:
        # What was claimed under a name that is lost would run for nothing.
        self._in_flight.remove([one.held for one in self._buffer.drain(unless=consumer)])
        reads = encode_reads(self.sources)
        self._link.run(
            scripts.enlist(self._members, consumer, self.name, reads, claims=self.claims)
        )
        self._enlisted = consumer

    def _fetch(
        self,
        sources: Sequence[Source],
        consumer: str,
        room: int,
        *,
        alone: bool = False,
        nothing_new: bool = False,
    ) -> tuple[Fetched, int]:
        """One fetch; returns it, and how many entries it has brought."""
        fetched = self._link.run(
            scripts.fetch(
                [source.keys for source in sources],
                self._delayed,
                group=sources[0].group,
                consumer=consumer,
                room=room,
                passed_on_ms=0 if alone else self._passed_on_ms,
                alone=alone,
                lanes=not alone and not self._rotate and len(sources) > 1,
                owned=self.claims,
                nothing_new=nothing_new,
            )
        )
        if not alone:
            self._passed_on_ms = fetched.next_due_ms or 0
        taken = self._keep(sources, fetched, consumer)
        if not fetched.error:
            self._has_read()
        return fetched, taken

    def _has_read(self) -> None:
        self.reads += 1
        self.trouble = ""

    def _run_suspects(self, consumer: str) -> None:
        if not self._suspects.is_due():
            return
        if self._buffer.view().waiting:
            # While anything waits here, this process never becomes empty.
            self._hand_back(self._buffer.drain())
        turn = self._suspects.begin()
        if turn is Turn.BESIDE:
            self._take_suspect(consumer)
        elif turn is Turn.ALONE:
            try:
                while not self._stopping.is_set() and self._take_suspect(consumer):
                    if not self._suspects.harmless():
                        return
            finally:
                self._suspects.end()

    def _take_suspect(self, consumer: str) -> bool:
        return self._fetch(self.sources, consumer, 1, alone=True)[1] > 0

    def _keep(self, sources: Sequence[Source], fetched: Fetched, consumer: str) -> int:
        now_ns = self._clock_ns()
        claimed: list[Claimed] = []
        again: set[bytes] = set()
        for block in fetched.blocks:
            source = sources[block.source]
            options = block.options or [None] * len(block.entries)
            again.update(entry_id for entry_id, _ in block.entries if block.options)
            for (entry_id, fields), text in zip(block.entries, options, strict=True):
                claimed.append(
                    Claimed(source, consumer, entry_id, fields, text, now_ns, block.aged)
                )
        for message_id in fetched.dropped:
            self.logger.info("%s: message %s was cancelled; dropped.", self.name, message_id)
        if claimed:
            self._put(claimed, fetched.cancellations, again)
        return len(claimed)

    def _put(
        self, claimed: list[Claimed], cancellations: bool, again: Collection[bytes] = ()
    ) -> None:
        """Into the buffer, but for what was cancelled or is done."""
        if cancellations and self._delayed is not None:
            claimed, cancelled = without_cancelled(self._link, self._delayed.cancelled, claimed)
            for one in cancelled:
                message_id = (one.decoded or {}).get("message_id")
                self.logger.info("%s: message %s was cancelled; dropped.", self.name, message_id)
            if cancelled:
                self._in_flight.add([one.held for one in cancelled])
                self._end(cancelled, CANCELLED)
        claimed = marked_done(self._link, claimed, again, self._window_ms)
        if claimed:
            claimed = self._prepare(claimed)
            needless = self._buffer.put(claimed)
            if needless:
                self._end(needless, CONFLATED)
            self._say_if_clogged()

    def _say_if_clogged(self) -> None:
        clogged = self._buffer.is_clogged()
        if clogged and not self._clogged:
            self.logger.warning(
                "%s: %d entries wait here for their key, a retry, a breaker or a halt; nothing "
                "more is read until there are fewer.",
                self.name,
                MAX_WAITING,
            )
        self._clogged = clogged

    def _give_back(self, claimed: Sequence[Claimed]) -> None:
        """Hands back what never came into the buffer. Held until then: the committer takes out
        what it has settled, and would otherwise take out a later claim of the same entry."""
        self._in_flight.add([one.held for one in claimed])
        self._hand_back(claimed)

    def _compare(self, consumer: str) -> None:
        """Hands back what the server counts as ours and we do not hold: replies were lost."""
        doubts = False
        for source in self.sources:
            pending = self._link.send(
                "XPENDING", source.keys.entries, source.group, "-", "+", COMPARED, consumer
            )
            ids = [entry[0] for entry in pending]
            lost, doubtful = self._in_flight.lost(source, consumer, ids)
            doubts = doubts or doubtful
            if lost:
                self.logger.warning(
                    "%s: %d entries were claimed by a read whose reply was lost; handed back.",
                    source.name,
                    len(lost),
                )
                self._give_back([Claimed(source, consumer, one, [], None, 0) for one in lost])
        self._next_compare = time.monotonic() + (DOUBT_S if doubts else COMPARE_S)

    def _wait_for_entries(self, fetched: Fetched, consumer: str) -> None:
        """Waits for an entry, a wake-up, the next due time or the next comparison.

        A blocking read that ends with nothing is repeated, with no more than a look at the due
        times in between (a wake-up may have been lost): that is all that an idle queue costs.
        """
        until = self._next_compare
        due_s = None
        if fetched.next_due_ms is not None:
            due_s = time.monotonic() + (fetched.next_due_ms - fetched.now_ms) / 1000
        # Under a name that was fenced meanwhile nothing must be claimed any more.
        while not self._stopping.is_set() and consumer == self._identity.consumer:
            now = time.monotonic()
            if due_s is not None:
                until = min(until, due_s)
            left_ms = int((until - now) * 1000) + 1
            if now >= until:
                return
            alarm = None
            if due_s is not None and left_ms <= BLOCK_MS:
                alarm = Alarm(due_s, self._interrupt)
            block_ms = min(left_ms, BLOCK_MS)
            if not self._buffer.is_empty():
                # Only the time can tell a pause, and these must not wait for its end.
                block_ms = min(block_ms, int(PAUSE_S * 1000) + 1)
            ended = self._block(block_ms, consumer, alarm)
            if ended is Wake.ARRIVED and time.monotonic() - now > QUIET_S:
                # What came after a wait has most likely nothing behind it; no fetch is needed.
                if not self._buffer.has_room():
                    return
            elif ended is not Wake.TIMED_OUT or self._buffer.is_paused():
                return
            elif time.monotonic() < until:
                keys = [source.keys for source in self.sources]
                due_ms = self._link.run(scripts.peek(keys, self._delayed))
                due_s = None if due_ms is None else time.monotonic() + due_ms / 1000

    def _block(self, block_ms: int, consumer: str, alarm: Alarm | None) -> Wake:
        """One blocking read."""
        try:
            cancelled = self._delayed.cancelled if self._delayed else None
            arrival = blocking_read(
                self._link, self.sources, consumer, block_ms, cancelled=cancelled, alarm=alarm
            )
        except CommandFailed as error:
            self._on_error(str(error), consumer)
            return Wake.WOKEN
        self._has_read()
        if arrival is None:
            return Wake.TIMED_OUT
        now_ns = self._clock_ns()
        claimed = [
            Claimed(one.source, consumer, one.entry_id, one.fields, None, now_ns)
            for one in arrival.entries
        ]
        if claimed and consumer != self._identity.consumer:
            # Declared dead meanwhile: what is claimed under that name is taken from it again.
            self._identity.fenced(consumer)
            return Wake.WOKEN
        if claimed and self._in_flight.someone_is_alone():
            self._give_back(claimed)
            return Wake.WOKEN
        if claimed:
            self._put(claimed, arrival.cancellations)
            return Wake.ARRIVED
        return Wake.WOKEN

    def _on_error(self, text: str, consumer: str) -> None:
        if "FENCED" in text:
            self._identity.fenced(consumer)
        elif "NOGROUP" in text:
            self.logger.warning("%s: a stream or group was deleted; making it anew.", self.name)
            ensure_groups(self._link, self.sources, self._start)
        elif "UNBLOCKED" not in text:
            raise CommandFailed(f"Reading {self.name!r} failed: {text}")
