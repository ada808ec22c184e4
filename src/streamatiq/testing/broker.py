"""The broker of tests. See `TestBroker`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, Self, TypeVar

import dramatiq
import dramatiq.broker
from dramatiq import Message, Worker
from dramatiq.errors import QueueNotFound
from dramatiq.middleware import Middleware

from ..broker import (
    DeadLetterEntry,
    DeadLetterFilter,
    Receipt,
    RedisStreamsBroker,
    Subscription,
)
from ..broker.dead_letter_filter import EVERY
from ..broker.groups import groups_maker
from ..errors import BrokerError
from ..events import Event
from ..settings import Settings
from ..workers import default_broker
from .adopted import Loan
from .failures import Failure, Failures
from .idle import Look, look
from .twin import Twin

__all__ = ["TestBroker"]

E = TypeVar("E", bound=Event)

#: How often an idle thread of the worker looks whether it shall stop, ms.
WORKER_LOOK_MS = 20
#: Seconds between two looks at what is left.
LOOK_S = 0.002
#: How long a worker may take to stop, ms.
STOP_MS = 10_000


class TestBroker(RedisStreamsBroker):
    """The real broker, on a server that is a part of this process; see `Twin`.

    As a context manager it is also Dramatiq's global broker, so that `publish`, `emit` and handlers
    that are declared meanwhile use it; at the end the one that was there is put back. What differs
    from the real thing:

    - A subscription exists from its declaration on, not from the boot of its first worker: an event
      that a test publishes is never before it.
    - Nothing runs by itself: `run_until_idle` runs what there is, in threads of this process.

    Thread-safe as its base class. Not to be used after a fork.

    Parameters:
      twin: The server; default: one of its own, closed with the broker. Two brokers on one twin are
        as two processes on one server.
      namespace: Prefix of every key; default: the settings' `namespace`.
      settings: Default: `Settings()`, which does not read the settings file.
      middleware: As Dramatiq's; None means Dramatiq's default list.

    Raises:
      ConfigurationError: Lua is not installed: `pip install 'streamatiq[testing]'`.
    """

    #: Not a test case, whatever its name: pytest leaves it alone.
    __test__ = False

    def __init__(
        self,
        *,
        twin: Twin | None = None,
        namespace: str | None = None,
        settings: Settings | None = None,
        middleware: list[Middleware] | None = None,
    ) -> None:
        self._own_twin = twin is None
        #: The server: moves the clock (`advance`), drops all data (`clear`), cuts connections.
        self.twin = twin or Twin()
        self._loan: Loan | None = None
        self._global: dramatiq.Broker | None = None
        self._failures = Failures()
        super().__init__(
            self.twin.url,
            namespace=namespace,
            settings=settings or Settings(),
            middleware=middleware,
        )
        self.add_middleware(self._failures)

    @classmethod
    def adopt(
        cls, broker: RedisStreamsBroker | None = None, *, twin: Twin | None = None
    ) -> TestBroker:
        """A broker with the handlers, actors, middleware and settings of another, for as long as it
        is not closed. The other one is left alone: it connects to nothing.

        Import the modules that declare handlers before: later ones are not seen.

        Parameters:
          broker: Whose handlers; default: the global broker, or the one that `@on` has made from
            the settings.
          twin: As of the class.

        Raises:
          NotAStreamatiqBroker: The global broker is of another kind.
          ConfigurationError: Lua is not installed, or the settings are wrong.
        """
        lender = broker or default_broker()
        made = cls(
            twin=twin,
            namespace=lender.keys.namespace,
            settings=lender.settings,
            middleware=[one for one in lender.middleware if not isinstance(one, Failures)],
        )
        made._loan = Loan(lender, made)
        made._make_groups()
        return made

    # -- in tests ------------------------------------------------------------------------------

    def publish(self, *events: Event) -> list[Receipt]:
        """Appends events to their logs, as `streamatiq.publish` does.

        Raises:
          BrokerError: They were refused.
        """
        return self.logs.publish_many(events)

    def published(self, cls: type[E]) -> list[E]:
        """All events of the log of `cls`, in the order of the log (part by part)."""
        return [entry.event for entry in self.logs.read(cls)]

    def queued(self, queue_name: str = "default") -> list[Message[Any]]:
        """The messages of a work queue: lane by lane, then the delayed ones as they are due.

        Raises:
          HandlerDefinitionError: It is a subscription, which has events and no messages.
          QueueNotFound: Nothing of this name was ever declared.
        """
        self._refuse_subscription(queue_name)
        self._refuse_unknown(queue_name)
        keys = self.keys.queue(queue_name)
        with self.client() as client:
            entries: list[Any] = []
            for source in self._sources(queue_name):
                entries += client.xrange(source.keys.entries)
            texts = [fields[b"m"] for _, fields in entries]
            members: Any = client.zrange(keys.delayed, 0, -1)
            if members:
                delayed: Any = client.hmget(keys.delayed_messages, members)
                texts += [text for text in delayed if text is not None]
        return [Message.decode(text) for text in texts]

    def run_until_idle(
        self, *, timeout_s: float = 10.0, threads: int = 1, skip_delays: bool = True
    ) -> None:
        """Runs handlers and actors in this process until nothing is left to do.

        What a handler raises is not raised here: it is retried and dead-lettered as ever; see
        `failures` and `dead_letters`.

        Parameters:
          timeout_s: Seconds, real time.
          threads: Worker threads. With one, what is queued runs one after the other.
          skip_delays: Move the twin's clock on to whatever is due next (delayed messages, retries),
            again and again, until nothing waits. Otherwise what is not due stays where it is.

        Raises:
          TimeoutError: There was still something to do; names it. Handlers that run are interrupted
            as by any stop of a worker.
        """
        before = list(self.middleware)
        worker = Worker(self, worker_timeout=WORKER_LOOK_MS, worker_threads=threads)
        worker.start()
        self._clock_moved()  # by the test, perhaps, since the last run
        try:
            self._wait_until_idle(timeout_s, skip_delays)
        finally:
            worker.stop(timeout=STOP_MS)
            # The worker has added one of its own, and the next one will.
            self.middleware = [one for one in self.middleware if one in before]

    @property
    def failures(self) -> list[Failure]:
        """Every run that raised, also those that were retried, in the order in which they ended."""
        return list(self._failures.found)

    def clear(self) -> None:
        """Drops all data and failures; what is declared stays, and its subscriptions begin anew."""
        self.twin.clear()
        self._failures.found.clear()
        self._make_groups()

    # -- the base class's ----------------------------------------------------------------------

    def declare_subscription(self, subscription: Subscription) -> None:
        """As of the base class; the subscription begins here and now."""
        super().declare_subscription(subscription)
        self._make_group(subscription.name)

    def dead_letters(
        self,
        queue_name: str,
        where: DeadLetterFilter = EVERY,
        *,
        after: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[DeadLetterEntry]:
        """As of the base class, but of a name that is known: a test that misspells it would find
        no letters, whatever happens.

        Raises:
          QueueNotFound: Nothing of this name was ever declared; raised at once.
        """
        self._refuse_unknown(queue_name)
        return super().dead_letters(
            queue_name, where, after=after, limit=limit, newest_first=newest_first
        )

    def close(self) -> None:
        """Stops what runs, gives back what was adopted, and ends the twin if it is its own.

        Whatever opens a connection through this broker later raises BrokerError at once.
        """
        super().close()
        self.endpoint.resolved = _closed  # type: ignore[method-assign]
        if self._loan is not None:
            self._loan.end()
            self._loan = None
        if self._own_twin:
            self.twin.close()

    def __enter__(self) -> Self:
        self._global = dramatiq.broker.global_broker
        dramatiq.set_broker(self)
        return self

    def __exit__(self, *_: object) -> None:
        # Not dramatiq.set_broker(): there may have been none.
        dramatiq.broker.global_broker = self._global
        self.close()

    # -- parts ---------------------------------------------------------------------------------

    def _refuse_unknown(self, name: str) -> None:
        # Declared here, or read by a worker of another broker on this twin.
        if name not in self.queues and name not in self.known_queues():
            there = ", ".join(sorted(self.queues)) or "none"
            raise QueueNotFound(
                f"No queue or subscription {name!r} was declared on this test broker; "
                f"there are: {there}."
            )

    def _make_group(self, name: str) -> None:
        self._links.call(groups_maker(self._sources(name), self._group_start(name)))

    def _make_groups(self) -> None:
        for name in self.subscriptions:
            self._make_group(name)

    def _wait_until_idle(self, timeout_s: float, skip_delays: bool) -> None:
        deadline = time.monotonic() + timeout_s
        pause = threading.Event()
        while True:
            looks = self._look()
            if looks is not None and not any(one.busy for one in looks):
                dues = [one.due_ms for one in looks if one.due_ms is not None]
                if not dues or not skip_delays:
                    return
                self.twin.advance(min(dues) / 1000 + 0.001)
                self._clock_moved()
            if time.monotonic() >= deadline:
                raise TimeoutError(self._left(timeout_s))
            pause.wait(LOOK_S)

    def _clock_moved(self) -> None:
        """What waits for a time of the server waits by this process's own clock."""
        if self.guards is not None:
            self.guards.reload()

    def _look(self) -> Sequence[Look] | None:
        """What every queue holds, at one moment; None if something happened meanwhile."""
        before = self.twin.writes
        looks = [self._look_at(name) for name in sorted(self.queues)]
        return looks if self.twin.writes == before else None

    def _look_at(self, name: str) -> Look:
        sources = [source.keys for source in self._sources(name)]
        delayed = None if name in self.subscriptions else self._work_queue(name).delayed
        held = self.backlog(name)
        return self._links.call(lambda link: look(link, name, held, sources, delayed))

    def _left(self, timeout_s: float) -> str:
        left = ", ".join(f"{name}: {self.backlog(name)}" for name in sorted(self.queues))
        return (
            f"There is still something to do after {timeout_s:g} s ({left}). Does a handler hang, "
            "or do handlers cause each other's work for ever? A message that sends itself again "
            "with a delay never ends: use skip_delays=False."
        )


def _closed() -> NoReturn:
    raise BrokerError("This test broker is closed: use it within its `with` block.")
