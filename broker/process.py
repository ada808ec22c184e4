"""What one worker process runs for the broker: its identity, its intakes, its committer.

Made on the first `consume` in a process, so never inherited by a fork.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import replace
from functools import partial
from queue import Empty
from typing import Any

from dramatiq import Worker
from dramatiq.logging import get_logger

from ..errors import BrokerError
from .committer import Committer, OnSettled
from .committers import Committers
from .connections import Endpoint, Link, RetryPolicy
from .consumer import hand_back
from .delivery import Delivery
from .guards import Guards
from .health import HealthReport, Problem, encode_record, problems_of
from .heartbeat import Heartbeat
from .identity import Identity
from .in_flight import InFlight
from .intake import Intake
from .keys import GuardKeys, MemberKeys
from .members import ReadSource, reads_of
from .outages import Outages
from .pulse import Pulse
from .reclaimer import Reclaimer
from .unblocking import Unblocker

__all__ = ["ConsumingProcess"]

#: Seconds that a stop waits for the server to take the last settlements: with the rest of the stop
#: less than the ten that containers are given.
FLUSH_S = 6.0
#: Seconds that are waited without a word.
FLUSH_QUIETLY_S = 0.5
#: Seconds that the first read waits for the first heartbeat, or for its failure.
FIRST_HEARTBEAT_S = 2.0
#: Seconds that the first read waits until it is known what is halted, or cannot be.
FIRST_GUARDS_S = 2.0
#: How often an entry may be in the hands of a dying worker before it is dead-lettered.
MAX_DELIVERIES = 5


class ConsumingProcess:
    """The consuming side of a broker in this process. Thread-safe.

    Parameters:
      endpoint, retry: The server.
      members: Where this process is listed.
      guards: Where it is written what is halted, and which breakers are open.
      window_ms: How long done marks and publish ids are kept at least.
      worker: Dramatiq's worker in this process, if there is one; looked at for health records.
      housekeeping: What the process that looks for dead ones does every minute besides; is told
        this process's name.
      on_settled: As the committer's.

    `_lock` guards `_intakes`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        retry: RetryPolicy,
        members: MemberKeys,
        guards: GuardKeys,
        *,
        window_ms: int,
        worker: Callable[[], Worker | None] = lambda: None,
        housekeeping: Callable[[Link, str], object] = lambda _, name: None,
        on_settled: OnSettled = lambda batch, outcome, at_ns: None,
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self.pid = os.getpid()
        self.identity = Identity()
        self.in_flight = InFlight()
        self.unblocker = Unblocker(endpoint)
        self._give_up_at: float | None = None
        self._lock = threading.Lock()
        self._intakes: dict[str, Intake] = {}
        self._endpoint = endpoint
        #: What may run now.
        self.guards = Guards(guards, endpoint, by=lambda: self.identity.consumer)
        self.committer = Committers(
            partial(
                Committer,
                endpoint,
                retry=retry,
                window_ms=window_ms,
                on_fenced=self.identity.fenced,
                in_flight=self.in_flight,
            ),
            on_settled,
        )
        self.guards.on_change(self._recheck)
        self._reclaimer = Reclaimer(
            members,
            self.identity,
            self._reads,
            max_deliveries=MAX_DELIVERIES,
            housekeeping=lambda link: housekeeping(link, self.identity.consumer),
        )
        #: The delivery that each worker thread began last, by the thread's id.
        self.running: dict[int, Delivery] = {}
        self.pulse = Pulse(
            self.identity, self._all, self.committer, self.in_flight, self.running, worker
        )
        self.heartbeat = Heartbeat(
            members,
            endpoint,
            self.identity,
            self._reclaimer,
            record=self._record,
            on_renamed=self._interrupt,
        )

    def intake(self, name: str, make: Callable[[ConsumingProcess], Intake]) -> Intake:
        """The intake of queue `name`; made at its first use and after a stop."""
        # Before it reads: who is not listed yet, and dies, is found dead by silence only.
        self.heartbeat.wait_for_first(FIRST_HEARTBEAT_S)
        self.guards.wait_for_first(FIRST_GUARDS_S)
        with self._lock:
            intake = self._intakes.get(name)
            if intake is None:
                intake = self._intakes[name] = make(self)
                self._give_up_at = None
            return intake

    def _reads(self) -> list[ReadSource]:
        return [read for intake in self._all().values() for read in reads_of(intake.sources)]

    def _all(self) -> dict[str, Intake]:
        with self._lock:
            return dict(self._intakes)

    def _interrupt(self) -> None:
        """Ends the blocking reads: they claim under a name that is lost."""
        for intake in self._all().values():
            intake.interrupt()

    def _recheck(self) -> None:
        """Something was halted or opened, or may run again."""
        for intake in self._all().values():
            intake.recheck()

    def _record(self) -> bytes:
        return encode_record(self.pulse.look())

    def health(self, *, max_silence_s: float, max_running_s: float | None) -> HealthReport:
        """What this process does now, and what is wrong with it; does not ask the server."""
        silent_s = time.monotonic() - self.heartbeat.last_beat
        health = replace(self.pulse.look(), silent_s=silent_s)
        problems = problems_of(
            health,
            max_silence_s=max_silence_s,
            max_running_s=max_running_s,
            own=True,
        )
        if not self.heartbeat.is_alive:
            what = "its heartbeat thread has died: others will find it dead"
            problems.append(Problem(health.shown, "", silent_s, what, "Restart it."))
        if not self.guards.is_alive:
            what = "its control thread has died: it is deaf to halts"
            problems.append(Problem(health.shown, "", None, what, "Restart it."))
        return HealthReport([health], problems)

    @property
    def leads(self) -> bool:
        """Whether this process had the lease by which dead ones are found, at its last heartbeat;
        False while its heartbeat has no connection."""
        return self._reclaimer.leading

    @property
    def is_idle(self) -> bool:
        """Whether nothing is read, and all is settled."""
        return not self._all() and self.committer.unsettled == 0

    def outages(self) -> list[tuple[str, Outages]]:
        """Of each connection that is kept open, by what it is for."""
        intakes = [("intake", intake.outages) for intake in self._all().values()]
        committers = [("committer", one) for one in self.committer.outages]
        rest = [("heartbeat", self.heartbeat.outages), ("control", self.guards.outages)]
        return [*intakes, *committers, *rest]

    def stop_reading(self, worker: Worker | None = None, *, unless: Collection[str] = ()) -> None:
        """Stops intakes, those of `worker` or all, and hands back, at once, all that no thread has
        begun to run.

        Parameters:
          unless: Queues that another worker of this process consumes too: they are read on.
        """
        with self._lock:
            names = set(self._intakes) if worker is None else set(worker.consumers)
            names -= set(unless)
            intakes = {name: self._intakes.pop(name) for name in names & set(self._intakes)}
            there = {**self._intakes, **intakes}
        left: list[tuple[Intake | None, list[Any]]] = [
            (intake, intake.stop()) for intake in intakes.values()
        ]
        if worker is not None:
            left += [(there.get(one.queue_name), [one]) for one in _drained(worker)]
        for intake, entries in left:
            hand_back(self.committer, intake, entries)
        for intake in intakes.values():
            intake.leave()

    def flush(self) -> None:
        """Waits until what was handled is settled, for `FLUSH_S` in the whole stop."""
        if not self.committer.flush(FLUSH_QUIETLY_S):
            left_s = self._left_s()
            self.logger.warning(
                "Waiting up to %.0f s for the server to take what was handled.", left_s
            )
            self.committer.flush(left_s)

    def _left_s(self) -> float:
        """What is left of the time that a stop may take for settling, from the first call on."""
        if self._give_up_at is None:
            self._give_up_at = time.monotonic() + FLUSH_S
        return max(0.0, self._give_up_at - time.monotonic())

    def close(self) -> None:
        """Stops intakes, committer and heartbeat; hands back what is left."""
        self.stop_reading()
        left = self.committer.close(self._left_s())
        self.unblocker.close()
        self.guards.stop()
        self.heartbeat.stop()
        with closing(Link(self._endpoint)) as link:
            try:
                # Fenced if something may still be on its way.
                self._reclaimer.reclaim(link, self.identity.consumer, fence=left > 0)
            except BrokerError as error:
                self.logger.warning(
                    "Cannot sign off: %s Others will find this process dead.", error
                )


def _drained(worker: Worker) -> list[Delivery]:
    """Takes out of Dramatiq's work queue what no thread has taken yet."""
    drained: list[Delivery] = []
    while True:
        try:
            item = worker.work_queue.get_nowait()
        except Empty:
            return drained
        worker.work_queue.task_done()
        assert isinstance(item.message, Delivery)
        drained.append(item.message)
