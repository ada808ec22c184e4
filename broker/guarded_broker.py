"""The part of the broker with which people stop things: halts, breakers; and limits of rates."""

from __future__ import annotations

from collections.abc import Iterator

from dramatiq.middleware import Middleware
from dramatiq.rate_limits import RateLimiterBackend

from ..settings import Settings
from .guard_admin import GuardAdmin, GuardChange, HaltOutcome
from .guard_state import BreakerState, Breaking, Halt, Scope
from .limiter_backend import LimiterBackend
from .queue_broker import QueueBroker

__all__ = ["GuardedBroker"]


class GuardedBroker(QueueBroker):
    """Halts and breakers of one namespace. See `RedisStreamsBroker` for the parameters."""

    def __init__(
        self,
        middleware: list[Middleware] | None,
        *,
        url: str | None,
        namespace: str | None,
        settings: Settings | None,
    ) -> None:
        super().__init__(middleware, url=url, namespace=namespace, settings=settings)
        # An option of plain actors, too; `@on` has it as a parameter.
        self.actor_options |= {"runs_when_halted"}
        self._limiter_backend = LimiterBackend(self.endpoint, self.keys.limits)
        self._guard_admin = GuardAdmin(
            self._links,
            self.keys.guards,
            reset_s=self.settings.event_bus.circuit_breaker.reset_time,
        )

    def halt(
        self,
        subscription: str | None = None,
        key: str | None = None,
        everything: bool = False,
        *,
        reason: str,
        by: str | None = None,
    ) -> HaltOutcome:
        """Stops a subscription or work queue, a key, or everything, in all processes.

        Once this has returned, every worker process that reaches the server begins no handler of it
        from 0.2 s later on, but those with `runs_when_halted`. Handlers that run are not
        interrupted. Events and messages wait, in order, and no attempt is burnt. A halt survives
        restarts of workers and server, and never ends by itself: `resume`.

        What is halted already stays halted for its first reason. Audited. Harmless to repeat.
        Thread-safe.

        Parameters:
          subscription: This subscription, or work queue.
          key: Events of this key: of all subscriptions, or of `subscription` only. Messages of work
            queues have no key.
          everything: Every subscription and work queue of the namespace.
          reason: Why; not empty. Shown wherever somebody asks what is halted.
          by: Who; default: user@host.

        Raises:
          ValueError: The reason is empty; or nothing, or more than one thing, is named.
          BrokerError: The server cannot be reached or refuses. Whether it is halted is not known
            after a lost connection: call again.
        """
        return self._guard_admin.halt(Scope.of(subscription, key, everything), reason, by)

    def resume(
        self,
        subscription: str | None = None,
        key: str | None = None,
        everything: bool = False,
        *,
        reason: str = "",
        by: str | None = None,
    ) -> Halt | None:
        """Ends one halt: the one that `halt` began with the same scope. Others go on to hold: with
        `everything=True` a subscription that was halted by name stays halted. Audited.

        Parameters:
          As `halt`; `reason` may be empty.

        Returns:
          The halt that has ended; None: there was none.

        Raises:
          ValueError: Nothing, or more than one thing, is named.
          BrokerError: The server cannot be reached or refuses.
        """
        return self._guard_admin.resume(Scope.of(subscription, key, everything), reason, by)

    def halts(self) -> list[Halt]:
        """All halts of the namespace, oldest first, read from the server.

        Raises:
          BrokerError: The server cannot be reached or refuses.
        """
        return self._guard_admin.halts()

    def breakers(self) -> list[BreakerState]:
        """All breakers that are open, half-open, or closed with failures, by name, read from the
        server. Any other breaker is closed.

        Raises:
          BrokerError: The server cannot be reached or refuses.
        """
        return self._guard_admin.breakers()

    def open_breaker(
        self, name: str, *, reason: str, reset_time_s: float | None = None, by: str | None = None
    ) -> Breaking:
        """Opens a breaker by hand, or keeps an open one open from now on. Audited.

        Parameters:
          name: Of the breaker; it need not be known yet.
          reason: Why; not empty.
          reset_time_s: Seconds until a probe may run; default: the settings'
            `event_bus.circuit_breaker.reset_time`; `math.inf`: not before somebody closes or resets
            it.
          by: Who; default: user@host.

        Returns:
          The state in which it was.

        Raises:
          ValueError: The reason is empty, or a value makes no sense.
          BrokerError: The server cannot be reached or refuses.
        """
        return self._guard_admin.set_breaker(name, "open", reason, by, reset_time_s)

    def close_breaker(self, name: str, *, reason: str, by: str | None = None) -> Breaking:
        """Closes a breaker by hand and forgets its failures: everything runs again. As
        `open_breaker`; of a breaker that is closed without failures, nothing happens."""
        return self._guard_admin.set_breaker(name, "close", reason, by)

    def reset_breaker(self, name: str, *, reason: str, by: str | None = None) -> Breaking:
        """Makes the reset time of an open breaker pass now: the next run is its probe, which closes
        it or opens it again. Of a closed one the failures are forgotten. As `open_breaker`."""
        return self._guard_admin.set_breaker(name, "reset", reason, by)

    def guard_changes(self, limit: int | None = None) -> Iterator[GuardChange]:
        """The audit: every change of a halt or a breaker's state, newest first (of the newest
        100,000).

        Parameters:
          limit: At most so many.

        Raises:
          BrokerError: The server cannot be reached or refuses.
        """
        return self._guard_admin.changes(limit)

    def rate_limiter_backend(self) -> RateLimiterBackend:
        """A backend for Dramatiq's rate limiters on the broker's server, in its namespace.

        Thread-safe; connects at its first use, and anew after a fork. Closed with the broker.
        """
        return self._limiter_backend

    def close(self) -> None:
        """Closes the connections."""
        self._limiter_backend.close()
        super().close()
