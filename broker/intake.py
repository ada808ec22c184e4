"""Intake: brings entries of one queue or subscription into this process.

One thread and one connection a queue. While there is room, `fetch` takes entries: those handed back
or due first, then new ones. When nothing is there the thread blocks in XREADGROUP, with COUNT 1 and
until the next parked entry is due, and what wakes it is handed on at once. `wake` streams are read
beside the sources: a script that makes something due earlier, or hands entries back, adds to one of
them, which wakes exactly one reader of the group.

Entries wait in a local buffer (`Buffer`) until Dramatiq's consumer takes them. There is room for
as many as the handlers can run in a moment, so a slow process does not sit on entries that another
one could run.

`_starting` guards the start of the thread; the thread alone uses the link.
A crash leaves claimed entries pending under this process's consumer name.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from enum import Enum
from typing import NamedTuple

from dramatiq.logging import get_logger

from ..errors import BrokerConnectionError, BrokerError, CommandFailed
from . import scripts
from .blocking import blocking_read
from .buffer import PAUSED, Buffer, BufferView, Claimed
from .cancelling import without_cancelled
from .connections import Endpoint, Link, RetryPolicy
from .groups import ensure_groups, wake_keys
from .identity import Identity
from .in_flight import InFlight
from .keys import MemberKeys
from .members import encode_reads
from .scripts import DelayedKeys, Fetched
from .sources import Source
from .suspects import Suspects, Turn

__all__ = ["Intake"]

#: Longest wait for new entries, ms. What a lost wake-up costs at most.
BLOCK_MS = 8_000
#: Seconds that a reply may take beyond the time it may block.
MARGIN_S = 5.0
#: Seconds between two comparisons of what the server counts as ours with what we hold; also the
#: longest time without a fetch.
COMPARE_S = 20.0
#: Seconds until the second comparison, which decides, when the first one found something.
DOUBT_S = 1.0
#: Seconds that a blocking read waits, at least, if there was nothing to read when it began.
QUIET_S = 0.0003
#: Pending entries looked at in one comparison: more than one process holds.
COMPARED = 1_000
#: Seconds between attempts to interrupt a blocked read while stopping.
UNBLOCK_EVERY_S = 0.05


class Ended(Enum):
    """How a blocking read ended."""

    #: With entries, which are in the buffer.
    ARRIVED = "arrived"
    #: With a wake-up or an error: fetch.
    WOKEN = "woken"
    TIMED_OUT = "timed_out"


class IntakeView(NamedTuple):
    """What a health record says of an intake."""

    started: bool
    #: Whether its thread lives, where it should.
    is_alive: bool
    #: Reads that have ended, with or without entries.
    reads: int
    #: Why the last one failed; empty if it did not.
    trouble: str
    buffer: BufferView


class Intake:
    """Reads one queue for one process.

    Parameters:
      name: The queue, or subscription.
      sources: In the order in which they are read.
      start: Entry id from which a new group reads: `$` (new entries only) or `0`.
      delayed: Keys of a work queue's delayed messages; None for a subscription.
      rotate: Whether the sources take turns in being first (partitions) or not (lanes).
      endpoint, retry: The server; attempts are not limited.
      members: Where this consumer says what it reads, before it reads.
      identity: This process's consumer name.
      in_flight: What this process holds.
      hand_back: Takes entries that this process claimed without knowing, to hand them back.
      drop: Takes messages that were cancelled, to settle them.
      threads: Worker threads of this process.
      batch_size: Entries that one fetch takes at most.
      clock_ns: Wall clock, ns.
    """

    def __init__(
        self,
        name: str,
        sources: Sequence[Source],
        *,
        start: str,
        delayed: DelayedKeys | None,
        rotate: bool,
        endpoint: Endpoint,
        retry: RetryPolicy,
        members: MemberKeys,
        identity: Identity,
        in_flight: InFlight,
        hand_back: Callable[[Sequence[Claimed]], None],
        drop: Callable[[Sequence[Claimed]], None],
        threads: int,
        batch_size: int,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self.name = name
        self._sources = list(sources)
        self._start = start
        self._delayed = delayed
        self._rotate = rotate
        self._endpoint = endpoint
        self._retry = RetryPolicy(None, retry.delay_s)
        self._members = members
        self._identity = identity
        self._enlisted: str | None = None
        self._in_flight = in_flight
        self._hand_back = hand_back
        self._drop = drop
        self._next_compare = 0.0
        self._suspects = Suspects(in_flight)
        self._clock_ns = clock_ns
        self._link = Link(
            endpoint, timeout_s=BLOCK_MS / 1000 + MARGIN_S, name=f"streamatiq-intake-{name[:40]}"
        )
        self._buffer = Buffer(in_flight, threads=threads, batch_size=batch_size)
        self._starting = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._client_id: int | None = None
        self._passed_on_ms = 0
        self._reads = 0
        self._trouble = ""

    # -- for the consumer ----------------------------------------------------------------------

    def take(self, prefetch: int, timeout_s: float) -> Claimed | None:
        """The next entry; see `Buffer.take`. The first call begins to read."""
        if self._thread is None:
            self._begin()
        return self._buffer.take(prefetch, timeout_s)

    @property
    def sources(self) -> list[Source]:
        """What it reads."""
        return self._sources

    def view(self) -> IntakeView:
        """What it does now, for a health record. From any thread."""
        thread = self._thread
        return IntakeView(
            started=thread is not None,
            is_alive=thread is None or thread.is_alive() or self._stopping.is_set(),
            reads=self._reads,
            trouble=self._trouble,
            buffer=self._buffer.view(),
        )

    def release(self) -> None:
        """An entry that was handed out needs its slot no more."""
        self._buffer.release()

    def stop(self) -> list[Claimed]:
        """Stops reading; returns what nobody has taken, for handing back. Idempotent."""
        with self._starting:
            self._stopping.set()
        self._buffer.close()
        if self._thread is not None:
            # The read may be about to block, so one interruption might come too early.
            with closing(Link(self._endpoint)) as link:
                while self._thread.is_alive():
                    self._interrupt(link)
                    self._thread.join(UNBLOCK_EVERY_S)
                self._wake_another(link)
        return self._buffer.drain()

    # -- the thread ----------------------------------------------------------------------------

    def _begin(self) -> None:
        with self._starting:
            if self._thread is not None or self._stopping.is_set():
                return
            self._thread = threading.Thread(
                target=self._run, name=f"streamatiq-intake-{self.name}", daemon=True
            )
            self._thread.start()

    def _run(self) -> None:
        backoff = self._retry.backoff(wait=self._stopping.wait)
        lost = False
        said = ""
        while not self._stopping.is_set():
            try:
                if self._client_id is None:
                    self._client_id = self._link.client_id()
                    ensure_groups(self._link, self._sources, self._start)
                    # A group that was there and is not any more is made anew from the beginning:
                    # what was published meanwhile is not skipped.
                    self._start = "0"
                    if lost:
                        self.logger.info("%s: reading again.", self.name)
                    lost = False
                    backoff = self._retry.backoff(wait=self._stopping.wait)
                self._read()
            except BrokerConnectionError as error:
                self._trouble = str(error)
                if not lost and not self._stopping.is_set():
                    self.logger.warning("%s: cannot read: %s Trying on.", self.name, error)
                lost = True
                self._reopen()
                backoff.pause()
            except BrokerError as error:
                self._trouble = str(error)
                if str(error) != said:
                    self.logger.error("%s: cannot read: %s Trying on.", self.name, error)
                said = str(error)
                self._reopen()
                backoff.pause()
            except Exception:
                # A bug of ours must not end the intake in silence.
                self.logger.exception("%s: reading failed. Trying again.", self.name)
                self._reopen()
                backoff.pause()
        self._link.close()

    def _reopen(self) -> None:
        self._link.close()
        self._client_id = None
        self._enlisted = None  # the server may have lost its memory
        self._next_compare = 0.0

    def _read(self) -> None:
        room = self._buffer.wait_for_room()
        if room == PAUSED:
            self._hand_back(self._buffer.drain())
            self._buffer.wait_for_resume()
        if room <= 0:
            return
        self._in_flight.wait_for_turn()
        consumer = self._identity.consumer
        sources = self._sources
        if consumer != self._enlisted:
            # What was claimed under a name that is lost would run for nothing.
            self._in_flight.remove([one.held for one in self._buffer.drain(unless=consumer)])
            reads = encode_reads(sources)
            self._link.run(scripts.enlist(self._members, consumer, self.name, reads))
            self._enlisted = consumer
        if time.monotonic() >= self._next_compare:
            self._compare(consumer)
        fetched = self._link.run(
            scripts.fetch(
                [source.keys for source in sources],
                self._delayed,
                group=sources[0].group,
                consumer=consumer,
                room=room,
                passed_on_ms=self._passed_on_ms,
                lanes=not self._rotate and len(sources) > 1,
            )
        )
        self._passed_on_ms = fetched.next_due_ms or 0
        taken = self._keep(sources, fetched, consumer)
        if self._rotate and len(sources) > 1:
            self._sources = [*sources[1:], sources[0]]
        if fetched.error:
            self._on_error(fetched.error, consumer)
        else:
            self._has_read()
            if taken == 0 and fetched.next_due_ms != 0:
                self._wait_for_entries(fetched, consumer)
        if fetched.suspects:
            self._run_suspects(consumer)

    def _has_read(self) -> None:
        self._reads += 1
        self._trouble = ""

    def _run_suspects(self, consumer: str) -> None:
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
        sources = self._sources
        call = scripts.fetch(
            [source.keys for source in sources],
            self._delayed,
            group=sources[0].group,
            consumer=consumer,
            room=1,
            alone=True,
        )
        return self._keep(sources, self._link.run(call), consumer) > 0

    def _keep(self, sources: Sequence[Source], fetched: Fetched, consumer: str) -> int:
        now_ns = self._clock_ns()
        claimed: list[Claimed] = []
        for block in fetched.blocks:
            source = sources[block.source]
            options = block.options or [None] * len(block.entries)
            for (entry_id, fields), text in zip(block.entries, options, strict=True):
                claimed.append(
                    Claimed(source, consumer, entry_id, fields, text, now_ns, block.aged)
                )
        if fetched.dropped:
            self.logger.info("%s: dropped %d cancelled messages.", self.name, fetched.dropped)
        if claimed:
            self._put(claimed, fetched.cancellations)
        return len(claimed)

    def _put(self, claimed: list[Claimed], cancellations: bool) -> None:
        """Into the buffer, but for what was cancelled."""
        if cancellations and self._delayed is not None:
            claimed, cancelled = without_cancelled(self._link, self._delayed.cancelled, claimed)
            if cancelled:
                self.logger.info("%s: dropped %d cancelled messages.", self.name, len(cancelled))
                self._drop(cancelled)
        if claimed:
            self._buffer.put(claimed)

    def _compare(self, consumer: str) -> None:
        """Hands back what the server counts as ours and we do not hold: replies were lost."""
        doubts = False
        for source in self._sources:
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
                self._hand_back([Claimed(source, consumer, one, [], None, 0) for one in lost])
        self._next_compare = time.monotonic() + (DOUBT_S if doubts else COMPARE_S)

    def _wait_for_entries(self, fetched: Fetched, consumer: str) -> None:
        """Waits for an entry, a wake-up, the next due time or the next comparison.

        A blocking read that ends with nothing is repeated, with no more than a look at the due
        times in between (a wake-up may have been lost): that is all that an idle queue costs.
        """
        until = self._next_compare
        due_ms = None
        if fetched.next_due_ms is not None:
            due_ms = fetched.next_due_ms - fetched.now_ms
        # Under a name that was fenced meanwhile nothing must be claimed any more.
        while not self._stopping.is_set() and consumer == self._identity.consumer:
            now = time.monotonic()
            if due_ms is not None:
                until = min(until, now + due_ms / 1000)
            left_ms = int((until - now) * 1000) + 1
            if now >= until:
                return
            ended = self._block(min(left_ms, BLOCK_MS), consumer)
            if ended is Ended.ARRIVED and time.monotonic() - now > QUIET_S:
                # What came after a wait has most likely nothing behind it; no fetch is needed.
                if not self._buffer.has_room():
                    return
            elif ended is not Ended.TIMED_OUT:
                return
            elif time.monotonic() < until:
                keys = [source.keys for source in self._sources]
                due_ms = self._link.run(scripts.peek(keys, self._delayed))

    def _block(self, block_ms: int, consumer: str) -> Ended:
        """One blocking read."""
        try:
            cancelled = self._delayed.cancelled if self._delayed else None
            arrival = blocking_read(self._link, self._sources, consumer, block_ms, cancelled)
        except CommandFailed as error:
            self._on_error(str(error), consumer)
            return Ended.WOKEN
        self._has_read()
        if arrival is None:
            return Ended.TIMED_OUT
        now_ns = self._clock_ns()
        claimed = [
            Claimed(one.source, consumer, one.entry_id, one.fields, None, now_ns)
            for one in arrival.entries
        ]
        if claimed and self._in_flight.someone_is_alone():
            self._hand_back(claimed)
            return Ended.WOKEN
        if claimed:
            self._put(claimed, arrival.cancellations)
            return Ended.ARRIVED
        return Ended.WOKEN

    def _on_error(self, text: str, consumer: str) -> None:
        if "FENCED" in text:
            self._identity.fenced(consumer)
        elif "NOGROUP" in text:
            self.logger.warning("%s: a stream or group was deleted; making it anew.", self.name)
            ensure_groups(self._link, self._sources, self._start)
        elif "UNBLOCKED" not in text:
            raise CommandFailed(f"Reading {self.name!r} failed: {text}")

    def _wake_another(self, link: Link) -> None:
        """This one may have been the only one that knew when the next entry is due."""
        try:
            link.send("XADD", wake_keys(self._sources)[0], "MAXLEN", 16, "*", "w", 1)
        except BrokerError as error:
            self.logger.debug("%s: cannot wake another reader: %s", self.name, error)

    def _interrupt(self, link: Link) -> None:
        client_id = self._client_id
        if client_id is None:
            return
        try:
            link.send("CLIENT", "UNBLOCK", client_id)
        except BrokerError as error:
            # Without the permission, or the server: the read ends by itself within BLOCK_MS.
            self.logger.debug("%s: cannot interrupt the read: %s", self.name, error)
