"""The scheduler process: one leads, the others stand by. See `SchedulerProcess`.

One thread takes care of leadership. Between two looks at the lease it waits for changes of
schedules, so a change wakes the leader at once, and the end of a leader that says goodbye wakes the
others. All times of runs are with `Timers` and `Runner`.

What a leader does in one term, from its taking the lease to somebody else's, is done over the
connections of that term: see `fencing`. While the server is away the term goes on, for nobody else
can lead then.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dramatiq.logging import get_logger

from ..broker import RedisStreamsBroker
from ..broker.connections import Link, RetryPolicy
from ..errors import BrokerConnectionError, BrokerError, LeadershipLost, StreamatiqError
from . import scripts
from .changes import MOST, Changed, Changes
from .checkpoints.jobs import on_shutdown
from .fencing import FencedLinks
from .metrics import SchedulerMetrics
from .persistence import Persistence
from .runner import Runner
from .schedules import MOST_SCHEDULES
from .scripts import Lead
from .standing import changes
from .store import read_definitions
from .timers import ServerClock, Timers

__all__ = ["SchedulerProcess"]

#: How often the lease is renewed while it holds.
RENEWALS = 3
#: Longest time between two looks at the lease, seconds: they tell others that this process lives.
LOOK_S = 2.0
#: Seconds after which a process that was not heard of is forgotten.
FORGET_S = 60.0
#: Seconds until a standing schedule that could not be made is tried again.
STANDING_AGAIN_S = 30.0
#: Longest time in which the thread that takes care of leadership gives no sign, seconds: with a
#: server that does not answer, a reply may take ten.
MAX_SILENCE_S = 30.0


@dataclass(slots=True)
class _Term:
    """A term of leadership."""

    epoch: int
    links: FencedLinks
    runner: Runner
    #: When to look, monotonic clock, s, whether the schedules that the settings ask for are as they
    #: say; inf: they are.
    settle_at_s: float = 0.0


class SchedulerProcess:
    """Leads, or stands by, from `start` to `stop`. Thread-safe.

    At most one process of a namespace leads; what one that was replaced still sends is not done. A
    leader that dies is replaced within `scheduler.lease` seconds, one that stops at once.

    Parameters:
      broker: Server, namespace, settings; and the actors that schedules may send to.
      name: Of this process; unique.
      clock: The server's clock; fire times go by it.
      on_end: Called, in the process's own thread, when `stop` has done its work.
    """

    def __init__(
        self,
        broker: RedisStreamsBroker,
        *,
        name: str | None = None,
        clock: ServerClock | None = None,
        on_end: Callable[[], object] = lambda: None,
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self.name = name or f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
        self.metrics = SchedulerMetrics()
        self._on_end = on_end
        self._broker = broker
        self._keys = broker.keys.scheduler
        self._settings = broker.settings.scheduler
        self._clock = clock or ServerClock()
        self._timers = Timers(self._clock, threads=self._settings.threads)
        self._link = Link(broker.endpoint, name="streamatiq-scheduler-lease")
        self._changes = Changes(self._keys.changes, broker.endpoint)
        self._retry = RetryPolicy(None, float(broker.settings.redis.retry_delay))
        self._persist = Persistence(self._retry, on_turn=self._sign, on_failure=self._lost)
        #: Set when no run is to begin any more.
        self._stopping = threading.Event()
        self._ended = threading.Event()
        # What follows is the thread's own; others read it.
        self._term: _Term | None = None
        self._connected = False
        self._turned_s = time.monotonic()
        self._holder = ""
        #: How many runs had not ended when it stopped.
        self.left_runs = 0
        self._thread = threading.Thread(target=self._run, name="streamatiq-scheduler", daemon=True)

    def start(self) -> None:
        """Begins to stand by, or to lead."""
        self._thread.start()

    def stop(self) -> None:
        """Lets no further run begin, waits for those that run (`scheduler.stop_timeout`), and lets
        another process lead. Returns at once; see `wait`. From any thread, or a signal's handler.
        """
        self._stopping.set()
        self._changes.interrupt()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits for the end of `stop`; False if it did not come."""
        return self._ended.wait(timeout_s)

    @property
    def active(self) -> int:
        """How many runs are being done."""
        term = self._term
        return 0 if term is None else term.runner.active

    @property
    def leading(self) -> bool:
        """Whether it led when it was last in touch with the server."""
        return self._term is not None

    def health(self) -> dict[str, Any]:
        """What it does; `healthy` unless a thread of it has died or hangs. A server that is away
        is no fault of this process, and shown."""
        silent_s = time.monotonic() - self._turned_s
        term = self._term
        living = (self._thread.is_alive() or self._ended.is_set()) and self._timers.is_alive
        return {
            "healthy": living and silent_s < MAX_SILENCE_S,
            "name": self.name,
            "role": "leader" if term is not None else "stand-by",
            "leader": self.name if term is not None else self._holder,
            "epoch": 0 if term is None else term.epoch,
            "connected": self._connected,
            "stopping": self._stopping.is_set(),
            "schedules": 0 if term is None else len(term.runner.names),
            "active_runs": self.active,
            "silent_s": round(silent_s, 3),
        }

    def exposition(self) -> bytes:
        """Its metrics, as Prometheus reads them."""
        term = self._term
        self.metrics.active.set(self.active)
        self.metrics.schedules.set(0 if term is None else len(term.runner.names))
        return self.metrics.exposition()

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._persist(self._turn, done=self._stopping.is_set, wait=self._stopping.wait)
            self._drain()
        except Exception:
            self.logger.exception("The scheduler ends: it cannot go on.")
        finally:
            self._end_term()
            self._changes.close()
            self._link.close()
            self._timers.close(wait=False)
            self._ended.set()
            self._on_end()

    def _sign(self) -> None:
        self._turned_s = time.monotonic()

    def _lost(self) -> None:
        self._connected = False
        self._link.close()
        self._changes.close_connection()

    def _turn(self) -> None:
        """One look at the lease, and a wait for changes until the next one."""
        lead = self._lead()
        returned, self._connected = not self._connected, True
        if returned and self._term is not None:
            self._term.settle_at_s = 0.0  # the server may have lost its memory
        self._keep_standing()
        if self._term is None:
            # Of what comes from now on, whoever stands by needs to know only that a leader went.
            self._changes.last = lead.newest
            wait_s = min(lead.left_ms / 1000 + 0.005, LOOK_S)
        else:
            wait_s = min(self._settings.lease / RENEWALS, LOOK_S)
            if returned:
                self._changes.last = lead.newest
                self._load()
                self._term.runner.look_at_all()
        changed = self._changes.wait(wait_s)
        if changed and self._term is not None:
            self._take_in(changed)

    def _lead(self) -> Lead:
        """Asks to lead, and begins or ends a term as the answer is."""
        call = scripts.lead(
            self._keys, self.name, int(self._settings.lease * 1000), int(FORGET_S * 1000)
        )
        lead = self._link.run(call)
        self._holder = lead.holder
        jumped = self._clock.set(lead.now_ms)
        term = self._term
        if term is not None and (lead.epoch != term.epoch or term.links.ended.is_set()):
            self._end_term()
            if lead.epoch == 0:
                self.logger.warning("%s leads now; standing by.", lead.holder)
        if lead.epoch and self._term is None:
            self._begin_term(lead)
        elif jumped and self._term is not None:
            self._timers.recheck()
            self._term.runner.look_at_all()
        return lead

    def _begin_term(self, lead: Lead) -> None:
        own = f"{lead.epoch} {self.name}"
        links = FencedLinks(self._broker.endpoint, self._retry, self._keys.leader, own)
        timer = self._timers.begin()
        runner = Runner(
            self._broker,
            links,
            own,
            timer,
            now_ms=self._clock.now_ms,
            metrics=self.metrics,
            history=self._settings.history,
            stopping=self._stopping,
        )
        timer.fire = runner.fire
        self._changes.last = lead.newest
        self._term = _Term(lead.epoch, links, runner)
        self.metrics.leader.set(1)
        self.metrics.epoch.set(lead.epoch)
        self._load()
        self.logger.info(
            "Leading as %s, epoch %d: %d schedules of namespace %s on %s.",
            self.name,
            lead.epoch,
            len(runner.names),
            self._broker.keys.namespace,
            self._broker.endpoint.shown,
        )

    def _keep_standing(self) -> None:
        """Once a term, the schedules that the settings ask for are made as they say."""
        term = self._term
        if term is None or time.monotonic() < term.settle_at_s:
            return
        wanted = changes(self._broker.settings, read_definitions(self._link, self._keys))
        if wanted:
            # Of two leaders with other settings, the last one decides. Refused if somebody else
            # has changed them since, or if the server stores no more.
            call = scripts.apply(self._keys, self.name, MOST_SCHEDULES, wanted)
            try:
                with term.links.borrow() as link:
                    outcome = link.run(call)
            except (BrokerConnectionError, LeadershipLost):
                raise
            except BrokerError as error:
                outcome = ["REFUSED", str(error)]
            if outcome[0] in ("CONFLICT", "FULL", "REFUSED"):
                # The others are not to suffer: they go on as they are.
                term.settle_at_s = time.monotonic() + STANDING_AGAIN_S
                what = ", ".join(one.name for one in wanted)
                self.logger.warning(
                    "Schedule %s cannot be made as the settings say: %s. Tried again in %.0f s.",
                    what,
                    " ".join(outcome),
                    STANDING_AGAIN_S,
                )
                return
            for one in wanted:
                self.logger.info(
                    "Schedule %s is %s, as the settings say.",
                    one.name,
                    "removed" if one.definition is None else "made",
                )
            self._load()
        term.settle_at_s = math.inf

    def _end_term(self) -> None:
        term, self._term = self._term, None
        if term is not None:
            term.links.ended.set()
            self._timers.end()
            term.links.close()
        self.metrics.leader.set(0)

    def _load(self) -> None:
        assert self._term is not None
        self._term.runner.load(read_definitions(self._link, self._keys))

    def _take_in(self, changed: Sequence[Changed]) -> None:
        assert self._term is not None
        if len(changed) >= MOST:
            self._load()
            self._term.runner.look_at_all()
            return
        if any(one.action in ("created", "changed", "removed") for one in changed):
            self._load()
        for name in {one.schedule for one in changed} & self._term.runner.names:
            self._term.runner.look(name)

    def _drain(self) -> None:
        """Goes on leading while runs end; then lets another process lead."""
        give_up_s = time.monotonic() + self._settings.stop_timeout

        def over() -> bool:
            return self.active == 0 or time.monotonic() >= give_up_s

        def renew() -> None:
            self._lead()
            if self._term is not None:
                left_s = give_up_s - time.monotonic()
                self._term.runner.idle.wait(min(self._settings.lease / RENEWALS, max(0.0, left_s)))

        if not over():
            self.logger.info(
                "Stopping: %d runs are given %.0f s to end.",
                self.active,
                self._settings.stop_timeout,
            )
            self._persist(renew, done=over, wait=threading.Event().wait)
        self._last_checkpoint(max(1.0, give_up_s - time.monotonic()))
        self.left_runs = self.active
        if self.left_runs:
            self.logger.warning(
                "%d runs did not end in time; the next leader does them again.", self.left_runs
            )
        try:
            self._link.run(scripts.abdicate(self._keys, self.name))
        except BrokerError as error:
            self.logger.warning("Cannot sign off: %s The lease ends by itself.", error)

    def _last_checkpoint(self, timeout_s: float) -> None:
        """What was done until now is not to be a whole interval old when somebody goes back."""
        term = self._term
        wanted = self._broker.settings.processor.checkpoint_interval is not None
        if term is None or not self._connected or not wanted:
            return
        give_up = threading.Timer(timeout_s, term.links.ended.set)
        give_up.daemon = True
        give_up.start()
        try:
            taken = on_shutdown(self._broker, links=term.links)
            self.logger.info("Checkpoint %s was taken at this shutdown.", taken)
        except StreamatiqError as error:
            self.logger.warning("No checkpoint at this shutdown: %s", error)
        except Exception:
            # A bug of ours must not keep another process from leading.
            self.logger.exception("No checkpoint at this shutdown.")
        finally:
            give_up.cancel()
