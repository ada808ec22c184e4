"""The committer: one thread that settles what worker threads hand it.

`submit` returns at once. While one batch is on its way to the server, the next one piles up: with
nothing to do there is no wait, under load the batches grow. At most `WINDOW` deliveries may be
unsettled, beside those that are less urgent (a subscription's `priority`) and what one batch of
events has beyond it; a thread that would exceed it waits, and after `PATIENCE_S` is told that the
server does not answer (Dramatiq repeats its ack, so nothing is lost).

A batch whose reply is lost is sent again under its number until the server answers; the script
returns the stored outcome if it was done. A batch that the server refuses is taken apart, so that
one bad entry does not hold up the others; an entry that still cannot be settled is put aside and
delivered again. What is submitted together is settled in one call: as a whole, or not at all.
A crash of the process leaves its unsettled entries pending.

`_lock` guards `_waiting`, `_unsettled`, `_by_priority`, `_patient`, `_idle` and `_closing`; the
thread alone uses the link.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from dramatiq.logging import get_logger

from ..errors import BrokerConnectionError, BrokerError, ReadOnlyServer
from .connections import Endpoint, Link, RetryPolicy
from .in_flight import InFlight
from .outages import Outages
from .settlements import HAND_BACK, BatchOutcome, HandBack, Park, Settlement, settle
from .settling_order import SettlingOrder

__all__ = ["Committer", "OnSettled"]

#: Told of each batch that the server has answered: what was asked, what became of it, and when the
#: answer was there, ns, wall clock.
OnSettled = Callable[[Sequence[Settlement], BatchOutcome, int], object]

#: Deliveries that may be unsettled at a time, of the same priority or of more urgent ones.
WINDOW = 256
#: Deliveries in one batch.
MAX_BATCH = 128
#: Seconds that `submit` waits for the window before it raises.
PATIENCE_S = 5.0
#: Longest pause between attempts to reach the server, seconds.
RECONNECT_S = 1.0
#: Milliseconds until an entry that could not be settled is delivered again.
RETRY_MS = 15_000


class Committer:
    """Settles deliveries, those of one source in the order in which they were submitted; where many
    wait, those of subscriptions with a lower `priority` number first.

    Parameters:
      endpoint: The server.
      retry: First pause after a lost connection; attempts are not limited.
      window_ms: How long done marks and publish ids are kept at least.
      on_fenced: Called with a consumer name that turned out to be fenced.
      in_flight: What this process holds; settled entries are taken out.
      on_settled: See `OnSettled`. Called in the committer's thread, before the batch counts as
        settled here; must return soon, must not raise, and must change nothing.
      name: Of its thread and its connection.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        retry: RetryPolicy,
        window_ms: int,
        on_fenced: Callable[[str], None],
        in_flight: InFlight,
        on_settled: OnSettled = lambda batch, outcome, at_ns: None,
        name: str = "streamatiq-committer",
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self.name = os.urandom(6).hex()
        self._link = Link(endpoint, name=name)
        self._retry = RetryPolicy(None, retry.delay_s)
        self._window_ms = window_ms
        self._on_fenced = on_fenced
        self._in_flight = in_flight
        self._on_settled = on_settled
        self.outages = Outages()
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._all_settled = threading.Condition(self._lock)
        #: Threads that wait for room, by priority.
        self._patient: Counter[int] = Counter()
        #: What was submitted together is settled in one call.
        self._waiting = SettlingOrder()
        self._unsettled = 0
        #: The same, by the priority of their sources.
        self._by_priority: Counter[int] = Counter()
        self._idle = False
        self._closing = False
        self._give_up = threading.Event()
        self._number = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, *settlements: Settlement) -> None:
        """Takes over how a delivery ends; or several, which are committed as a whole or not at all
        (but for those that the server refuses one by one, since what they emit cannot be stored).
        Thread-safe; keeps the order of calls for one source.

        Raises:
          BrokerConnectionError: The window stayed full: the server does not answer. Nothing was
            taken over; call again.
        """
        if not settlements:
            return
        with self._lock:
            self._wait_for_room(settlements[0].source.priority)
            self._append(settlements)

    def _wait_for_room(self, priority: int) -> None:
        def has_room() -> bool:
            return sum(n for of, n in self._by_priority.items() if of <= priority) < WINDOW

        if self._unsettled < WINDOW:
            return
        self._patient[priority] += 1
        try:
            found = self._room.wait_for(has_room, PATIENCE_S)
        finally:
            self._patient[priority] -= 1
        if not found:
            raise BrokerConnectionError(
                f"{self._unsettled} deliveries wait to be settled and {self._shown} has not "
                f"answered for {PATIENCE_S:.0f} s; this one is kept and tried again."
            )

    def submit_at_once(self, settlements: Sequence[Settlement]) -> None:
        """Takes over deliveries that were not handled (handed back, undecodable); never waits."""
        with self._lock:
            for settlement in settlements:
                self._append((settlement,))

    def _append(self, together: Sequence[Settlement]) -> None:
        self._unsettled += len(together)
        self._by_priority[together[0].source.priority] += len(together)
        self._waiting.add(together)
        if self._idle:
            self._idle = False
            self._work.notify()

    def flush(self, timeout_s: float) -> bool:
        """Waits until all that was submitted is settled; False when that took too long."""
        with self._lock:
            return self._all_settled.wait_for(lambda: self._unsettled == 0, timeout_s)

    def close(self, timeout_s: float) -> int:
        """Flushes and stops; returns how many deliveries stay unsettled (and so pending)."""
        flushed = self.flush(timeout_s)
        with self._lock:
            self._closing = True
            left = self._unsettled
            self._work.notify()
        if not flushed:
            self._give_up.set()
        self._thread.join()
        self._link.close()
        if left:
            self.logger.error(
                "%d deliveries could not be settled before the stop: %s does not answer. They stay "
                "pending and will be delivered again.",
                left,
                self._shown,
            )
        return left

    @property
    def unsettled(self) -> int:
        """Deliveries that were submitted and are not settled."""
        return self._unsettled

    @property
    def batches(self) -> int:
        """Batches that were begun: grows while settling makes progress."""
        return self._number

    @property
    def is_alive(self) -> bool:
        """Whether its thread lives, where it should."""
        return self._thread.is_alive() or self._closing

    @property
    def _shown(self) -> str:
        return self._link.endpoint.shown

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._waiting and not self._closing:
                    self._idle = True
                    self._work.wait()
                if not self._waiting or self._give_up.is_set():
                    return
                units = self._waiting.take(MAX_BATCH)
            batch = [one for together in units for one in together]
            again = self._commit(units)
            ended = [one for one in batch if one not in again] if again else batch
            self._in_flight.remove([one.held for one in ended])
            with self._lock:
                self._unsettled += len(again) - len(batch)
                for together in units:
                    self._by_priority[together[0].source.priority] -= len(together)
                for one in again:
                    self._by_priority[one.source.priority] += 1
                    self._waiting.add((one,))
                self._tell(len(units))

    def _tell(self, settled: int) -> None:
        """Wakes who waits. Each of `settled` units has made room for one about its size; to wake
        all for that, again and again, would keep the others from the interpreter."""
        if self._unsettled == 0:
            self._all_settled.notify_all()
        if sum(1 for count in self._patient.values() if count) > 1 or self._unsettled < WINDOW // 2:
            self._room.notify_all()
        else:
            self._room.notify(settled)

    def _commit(self, units: Sequence[Sequence[Settlement]]) -> list[Settlement]:
        """Settles `units` in one call; returns what must be submitted again, in another form."""
        self._number += 1
        batch = [one for together in units for one in together]
        call = settle(self.name, self._number, self._window_ms, batch)
        try:
            outcome = self._until_answered(lambda: self._link.run(call))
        except (BrokerConnectionError, ReadOnlyServer):
            return []  # close() gave up and says so
        except BrokerError as error:
            if len(batch) > 1:
                return self._commit_apart(units)
            return self._refused(batch[0], str(error))
        except Exception as error:
            # A value that cannot be sent, or a bug of ours: neither must end this thread.
            if len(batch) > 1:
                return self._commit_apart(units)
            self.logger.exception("%s cannot be settled.", batch[0].source.name)
            return self._refused(batch[0], repr(error))
        self._on_settled(batch, outcome, time.time_ns())
        return self._look_at(batch, outcome)

    def _commit_apart(self, units: Sequence[Sequence[Settlement]]) -> list[Settlement]:
        """The units one by one; the deliveries of one that was refused by itself, one by one."""
        if len(units) == 1:
            units = [(one,) for one in units[0]]
        return [left for together in units for left in self._commit([together])]

    def _until_answered(self, action: Callable[[], BatchOutcome]) -> BatchOutcome:
        backoff = self._retry.backoff(wait=self._give_up.wait, limit_s=RECONNECT_S)
        lost_at: float | None = None
        while True:
            try:
                outcome = action()
            except (BrokerConnectionError, ReadOnlyServer) as error:
                # A primary that was demoted: its successor will answer under the same address.
                self._link.close()
                self.outages.lost()
                if lost_at is None:
                    lost_at = time.monotonic()
                    self.logger.warning("Cannot settle: %s Trying on.", error)
                if backoff.pause():
                    raise
                continue
            if lost_at is not None:
                self.outages.back()
                self.logger.info(
                    "%s answers again after %.1f s; settling goes on.",
                    self._shown,
                    time.monotonic() - lost_at,
                )
            return outcome

    def _look_at(self, batch: list[Settlement], outcome: BatchOutcome) -> list[Settlement]:
        for source, consumer in outcome.fenced:
            self.logger.error(
                "Consumer %s was declared dead while it lived; what it had of %s is not committed "
                "and runs elsewhere.",
                consumer,
                source.name,
            )
            self._on_fenced(consumer)
        again: list[Settlement] = []
        for source, entry_id, text in outcome.problems:
            if text == "DUPLICATE":
                self.logger.info(
                    "%s %s: handled before; nothing of it was repeated.",
                    source.name,
                    entry_id.decode(),
                )
            elif text == "CANCELLED":
                self.logger.info(
                    "%s %s: what should have followed was cancelled; it was not enqueued.",
                    source.name,
                    entry_id.decode(),
                )
            elif text == "GONE":
                self.logger.warning(
                    "%s: an entry to settle was not pending any more (settled elsewhere, or its "
                    "stream was deleted).",
                    source.name,
                )
            elif text == "STATE":
                # An earlier event could not be committed, and this run did not know it.
                again += [
                    Settlement(one.source, one.consumer, one.entry_id, b"", HAND_BACK)
                    for one in batch
                    if one.source is source and one.entry_id == entry_id
                ]
            else:
                # Matched by id: an entry is in a batch once.
                for one in batch:
                    if one.source is source and one.entry_id == entry_id:
                        again += self._refused(one, text)
        return again

    def _refused(self, settlement: Settlement, text: str) -> list[Settlement]:
        where = f"{settlement.source.name} {settlement.entry_id.decode()}"
        if isinstance(settlement.action, Park | HandBack):
            self.logger.error("%s can be neither settled nor put aside: %s", where, text)
            return []
        self.logger.error(
            "%s could not be settled: %s It stays pending and is delivered again in %d s.",
            where,
            text,
            RETRY_MS // 1000,
        )
        settlement.action = Park(RETRY_MS, b"")
        settlement.emits = settlement.messages = settlement.states = ()
        return [settlement]
