"""Intake: brings entries of one queue or subscription into this process.

One thread and one connection a queue: the thread lets a `Reader` read, and goes on whatever happens
to the server. Entries wait in a local buffer (`Buffer`) until Dramatiq's consumer takes them. There
is room for as many as the handlers can run in a moment, so a slow process does not sit on entries
that another one could run.

`_starting` guards the start of the thread; the thread alone uses the link and the reader.
A crash leaves claimed entries pending under this process's consumer name.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import NamedTuple

from dramatiq.logging import get_logger

from ..errors import BrokerConnectionError, BrokerError
from . import reader
from .buffer import Buffer, BufferView
from .claimed import Claimed
from .connections import Endpoint, Link, RetryPolicy
from .gatekeeping import Gatekeeper
from .gates import Gates
from .groups import wake_keys
from .identity import Identity
from .in_flight import InFlight
from .keys import MemberKeys
from .ordered_reader import OrderedReader
from .outages import Outages
from .reader import Reader
from .scripts import DelayedKeys
from .settlements import Ended
from .shelf import Lanes
from .sources import Source
from .subscriptions import Subscription
from .unblocking import Unblocker

__all__ = ["Intake", "IntakeView"]

#: Seconds that a reply may take beyond the time it may block.
MARGIN_S = 5.0
#: Longest pause between attempts to connect, seconds: so much later it reads again, at most.
RECONNECT_S = 1.0
#: Seconds between attempts to interrupt a blocked read while stopping.
UNBLOCK_EVERY_S = 0.05


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
      unblocker: Ends blocking reads.
      members: Where this consumer says what it reads, before it reads.
      identity: This process's consumer name.
      in_flight: What this process holds.
      hand_back: Takes entries that this process claimed without knowing, to hand them back.
      end: Takes entries that nobody runs, to settle them so.
      threads: Worker threads of this process.
      batch_size: Entries that one fetch takes at most.
      gatekeeper: Tells what may run; default: everything.
      prepare: Looks at what one read has brought; see `Reader`.
      subscription: How its events are to be run; None for a work queue.
      window_ms: How long a publish id is kept at least.
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
        unblocker: Unblocker,
        members: MemberKeys,
        identity: Identity,
        in_flight: InFlight,
        hand_back: Callable[[Sequence[Claimed]], None],
        end: Callable[[Sequence[Claimed], Ended], None],
        threads: int,
        batch_size: int,
        window_ms: int,
        gatekeeper: Gatekeeper | None = None,
        prepare: Callable[[list[Claimed]], list[Claimed]] = lambda claimed: claimed,
        subscription: Subscription | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self.name = name
        self.outages = Outages()
        self._endpoint = endpoint
        self._unblocker = unblocker
        self._retry = RetryPolicy(None, retry.delay_s)
        self._link = Link(
            endpoint,
            timeout_s=reader.BLOCK_MS / 1000 + MARGIN_S,
            name=f"streamatiq-intake-{name[:40]}",
        )
        gatekeeper = gatekeeper or Gatekeeper()
        conflate = subscription is not None and subscription.conflate
        owned = subscription is not None and subscription.is_owned
        self._buffer = Buffer(
            in_flight,
            threads=threads,
            batch_size=batch_size,
            shelf=Gates(gatekeeper, conflate=conflate) if owned else Lanes(gatekeeper),
            batch=(subscription and subscription.batch) or 1,
            eager=conflate,
        )
        self._stopping = threading.Event()
        make = OrderedReader if owned else Reader
        self._reader: Reader = make(
            name,
            sources,
            start=start,
            delayed=delayed,
            rotate=rotate,
            members=members,
            identity=identity,
            in_flight=in_flight,
            hand_back=hand_back,
            end=end,
            link=self._link,
            interrupt=self.interrupt,
            buffer=self._buffer,
            gatekeeper=gatekeeper,
            prepare=prepare,
            window_ms=window_ms,
            stopping=self._stopping,
            clock_ns=clock_ns,
        )
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._client_id: int | None = None

    # -- for the consumer ----------------------------------------------------------------------

    def take(self, prefetch: int, timeout_s: float) -> Claimed | None:
        """The next entry; see `Buffer.take`. The first call begins to read."""
        if self._thread is None:
            self._begin()
        return self._buffer.take(prefetch, timeout_s)

    def take_many(
        self, most: int, prefetch: int, timeout_s: float, linger_s: float
    ) -> list[Claimed]:
        """The next entries of one batch; see `Buffer.take_many`. The first call begins to read."""
        if self._thread is None:
            self._begin()
        return self._buffer.take_many(most, prefetch, timeout_s, linger_s)

    def ended(self, *ends: tuple[Claimed | None, bool]) -> None:
        """Entries that were handed out were settled, or will return: what was claimed, if that is
        known, and whether it returns."""
        self._buffer.ended(ends)

    def put_back(self, claimed: Sequence[Claimed], hold_s: float = 0.0) -> list[Claimed]:
        """Takes back what was handed out and is not to run now; returns what is needless."""
        return self._buffer.put_back(claimed, hold_s)

    def recheck(self) -> None:
        """The guards have changed."""
        self._buffer.recheck()

    @property
    def sources(self) -> list[Source]:
        """What it reads."""
        return self._reader.sources

    def view(self) -> IntakeView:
        """What it does now, for a health record. From any thread."""
        thread = self._thread
        return IntakeView(
            started=thread is not None,
            is_alive=thread is None or thread.is_alive() or self._stopping.is_set(),
            reads=self._reader.reads,
            trouble=self._reader.trouble,
            buffer=self._buffer.view(),
        )

    def interrupt(self) -> None:
        """Ends the blocking read, if it is in one. From any thread."""
        client_id = self._client_id
        if client_id is not None:
            self._unblocker.unblock(client_id)

    def stop(self) -> list[Claimed]:
        """Stops reading; returns what nobody has taken, for handing back. Idempotent."""
        with self._starting:
            self._stopping.set()
        self._buffer.close()
        if self._thread is not None:
            # The read may be about to block, so one interruption might come too early.
            with closing(Link(self._endpoint)) as link:
                while self._thread.is_alive():
                    self.interrupt()
                    self._thread.join(UNBLOCK_EVERY_S)
                self._wake_another(link)
        return self._buffer.drain()

    def leave(self) -> None:
        """Lets others have the partitions that it owns. After `stop`, once what that has returned
        is on its way back."""
        if isinstance(self._reader, OrderedReader) and self._thread is not None:
            try:
                self._reader.leave()
            except BrokerError as error:
                self.logger.info("%s: cannot give up its partitions yet: %s", self.name, error)
            finally:
                self._link.close()

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
        backoff = self._retry.backoff(wait=self._stopping.wait, limit_s=RECONNECT_S)
        lost = False
        said = ""
        while not self._stopping.is_set():
            try:
                if self._client_id is None:
                    self._client_id = self._link.client_id()
                    self._reader.begin()
                    if lost:
                        self.logger.info("%s: reading again.", self.name)
                    lost = False
                    self.outages.back()
                    backoff = self._retry.backoff(wait=self._stopping.wait, limit_s=RECONNECT_S)
                self._reader.read()
            except BrokerConnectionError as error:
                self._reader.trouble = str(error)
                if not lost and not self._stopping.is_set():
                    self.logger.warning("%s: cannot read: %s Trying on.", self.name, error)
                lost = True
                self.outages.lost()
                self._reopen()
                backoff.pause()
            except BrokerError as error:
                self._reader.trouble = str(error)
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

    def _wake_another(self, link: Link) -> None:
        """This one may have been the only one that knew when the next entry is due."""
        try:
            link.send("XADD", wake_keys(self._reader.sources)[0], "MAXLEN", 16, "*", "w", 1)
        except BrokerError as error:
            self.logger.debug("%s: cannot wake another reader: %s", self.name, error)
