"""Guards: what may run now, as one process knows it. See docs/guards.md for the whole.

The state of halts and breakers is on the server (GUARDS in `keys`). Each consuming process has a
thread, `streamatiq-control`, that reads all of it before the first queue is read, and then follows
the control stream in a blocking read, so a change is known here as soon as the server can tell it.
What is decided (`admit`, `check`) is decided from memory; only the place of a half-open breaker's
one probe is asked for on the server.

While the server is away, the last state that was read holds. Before the first one is read nothing
may run: what may be halted does not run by mistake.

`_probes` guards itself: adding to and removing from a dict are atomic. Reports go over a pool of
links of their own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

from dramatiq.logging import get_logger

from ..errors import BrokerError
from . import guard_scripts as scripts
from .calls import Call
from .connections import Endpoint, Link, LinkPool, RetryPolicy
from .guard_follower import GuardFollower
from .guard_memory import GuardMemory
from .guard_scripts import Report
from .guard_state import BreakerState, Halt, Subject
from .keys import GuardKeys
from .outages import Outages
from .turning_away import TurnedAway

__all__ = ["Guards", "Subject"]

T = TypeVar("T")

#: Lease of a probe: so long after its process has died another run may be the probe, ms.
PROBE_LEASE_MS = 10_000


class Guards:
    """Halts and breakers in one consuming process. Thread-safe.

    Parameters:
      keys: Where they are.
      endpoint: The server.
      by: This process's present consumer name.
      clock_s: The monotonic clock, seconds.
    """

    def __init__(
        self,
        keys: GuardKeys,
        endpoint: Endpoint,
        *,
        by: Callable[[], str],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        #: Changes of state that this process has caused, by breaker and new state; only grows.
        self.changes: Counter[tuple[str, str]] = Counter()
        self._keys = keys
        self._by = by
        self._memory = GuardMemory(clock_s)
        #: By breaker and run: those that are probes, or ask to be, and whether they last.
        self._probes: dict[tuple[str, str], Callable[[], bool]] = {}
        self._links = LinkPool(endpoint, RetryPolicy(1, 0.05))
        self._follower = GuardFollower(
            keys, endpoint, self._memory, renew=self._renew, clock_s=clock_s
        )

    # -- for intake and workers ----------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """Whether nothing at all is halted, open, half-open or failing. Costs nothing."""
        return self._memory.quiet

    def wait_for_first(self, timeout_s: float) -> None:
        """Waits until the state was read, or could not be: before a queue is read."""
        self._follower.wait_for_first(timeout_s)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Calls `callback` in the control thread after each change. It must return soon."""
        self._follower.callbacks.append(callback)

    def admit(self, subject: Subject) -> float | None:
        """Whether `subject` may run now; asks the server nothing.

        Of an open breaker whose reset time has passed, one caller of this process is admitted, and
        may become the probe. If nothing comes of it within five seconds, another one is.

        Returns:
          None: it may. Otherwise the monotonic time, seconds, at which to ask again; inf: only
          after a change.
        """
        return self._memory.admit(subject)

    def leave(self, name: str, key: str) -> None:
        """What `admit` has admitted does not run: another one may become the probe.

        Parameters:
          name: The subscription or work queue.
          key: The event's key.
        """
        if not self.quiet:
            self._memory.leave(name, key)

    def check(self, subject: Subject) -> None:
        """Refuses what is halted, right before its handler would run.

        Raises:
          TurnedAway: It is; or the state is not known yet. No attempt is burnt.
        """
        if self.quiet:
            return
        if not self._memory.known:
            raise TurnedAway(None, "what is halted is not known yet")
        halt = self._memory.halt_of(subject)
        if halt is not None:
            raise TurnedAway(None, str(halt))

    def enter(
        self, subject: Subject, run: str, lasts: Callable[[], bool] = lambda: True
    ) -> tuple[str, ...]:
        """Passes `run` through the breakers of `subject`, right before its handler would run.

        Where one is half-open the server is asked whether this is its one probe.

        Parameters:
          run: Names this run of a handler.
          lasts: Whether the run goes on: as long as it does, the lease of its probe is renewed.

        Returns:
          The breakers of which it is the probe. Report its end to each: `passed`, `failed` or
          `release`.

        Raises:
          TurnedAway: It may not run now. Nothing is held then.
        """
        probes: list[str] = []
        try:
            for name in subject.breakers:
                if self._enter(subject, name, run, lasts):
                    probes.append(name)
        except TurnedAway:
            self.release(probes, run)
            raise
        return tuple(probes)

    def _enter(self, subject: Subject, name: str, run: str, lasts: Callable[[], bool]) -> bool:
        record, due = self._memory.state_of(name)
        if record is None or record.state == "closed":
            return False
        asking = any(breaker == name for breaker, _ in list(self._probes))
        if asking or not due:
            raise TurnedAway(None, str(record))
        # Known before it is asked for: the control thread renews its lease from the beginning.
        self._probes[name, run] = lasts
        try:
            report = self._links.call(_on(self._probe(name, run, "take")))
        except BrokerError as error:
            self._probes.pop((name, run), None)
            raise TurnedAway(None, f"breaker {name!r} cannot be asked: {error}") from error
        self._memory.told(name, report)
        self._memory.leave(subject.name, subject.key)  # from now on the server decides
        if report.to != "probe":
            self._probes.pop((name, run), None)
            if report.to == "closed":
                return False
            raise TurnedAway(None, str(report.record))
        if record.state == "open":
            self.changes[name, "half_open"] += 1
        return True

    def is_failing(self, name: str) -> bool:
        """Whether failures of breaker `name` are known, so that a success is news."""
        return self._memory.state_of(name)[0] is not None

    def failed(self, name: str, run: str, *, threshold: int, reset_ms: int, why: str) -> Report:
        """Reports that `run` failed; see `scripts.failed`.

        Raises:
          BrokerError: The server cannot be reached or refuses. A probe's lease ends by itself then.
        """
        call = scripts.failed(
            self._keys, name, run, threshold=threshold, reset_ms=reset_ms, why=why, by=self._by()
        )
        return self._report(name, run, call)

    def passed(self, name: str, run: str) -> Report:
        """Reports that `run` succeeded.

        Raises:
          BrokerError: As `failed`.
        """
        return self._report(name, run, scripts.passed(self._keys, name, run, by=self._by()))

    def release(self, names: Iterable[str], run: str) -> None:
        """Gives up the probe of these breakers: it ended with no outcome. Raises nothing."""
        for name in names:
            try:
                self._report(name, run, self._probe(name, run, "release"))
            except BrokerError as error:
                self.logger.warning(
                    "Breaker %r: its probe cannot be given up (%s); another one may run in %d s.",
                    name,
                    error,
                    PROBE_LEASE_MS // 1000,
                )

    def _report(self, name: str, run: str, call: Call[Report]) -> Report:
        self._probes.pop((name, run), None)  # whatever comes of it, the run is over
        report = self._links.call(_on(call))
        self._memory.told(name, report)
        if report.to in ("open", "closed"):
            self.changes[name, report.to] += 1
        return report

    def _probe(self, name: str, run: str, action: str) -> Call[Report]:
        return scripts.probe(self._keys, name, run, action, lease_ms=PROBE_LEASE_MS, by=self._by())

    # -- for whoever looks ---------------------------------------------------------------------

    def halts(self) -> list[Halt]:
        """What is halted, as this process knows it."""
        return self._memory.halts()

    def breakers(self) -> list[BreakerState]:
        """Breakers that are not plainly closed, as this process knows them."""
        return self._memory.breakers()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._follower.is_alive

    def reload(self) -> None:
        """Reads everything now, in the calling thread: the server's clock was moved, perhaps.

        Raises:
          BrokerError: The server cannot be reached or refuses.
        """
        self._memory.load(self._links.call(_on(scripts.read(self._keys))))

    @property
    def outages(self) -> Outages:
        """How often the thread's connection was lost and found again."""
        return self._follower.outages

    def stop(self) -> None:
        """Stops the thread. Idempotent."""
        self._follower.stop()
        self._links.close()

    def _renew(self, link: Link) -> bool:
        for (name, run), lasts in list(self._probes.items()):
            if lasts():
                self._memory.told(name, link.run(self._probe(name, run, "renew")))
            else:
                # It ended, and nobody was told: its lease runs out.
                self._probes.pop((name, run), None)
        return bool(self._probes)


def _on(call: Call[T]) -> Callable[[Link], T]:
    return lambda link: link.run(call)
