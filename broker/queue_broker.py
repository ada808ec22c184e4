"""The half of the broker that knows queues and subscriptions: declaring, looking, flushing.

`RedisStreamsBroker` is the other half: what happens to messages and deliveries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from dramatiq import Broker, Message
from dramatiq.errors import QueueNotFound
from dramatiq.logging import get_logger
from dramatiq.middleware import Middleware

from ..errors import HandlerDefinitionError
from ..settings import Settings
from .backpressure import Backpressure
from .carrying import Carrier
from .connections import Endpoint, LinkPool, RetryPolicy
from .dead_letter_admin import DeadLetters, OnOutcome
from .dead_letter_entry import DeadLetterEntry
from .dead_letter_filter import EVERY, DeadLetterFilter
from .dead_letter_summary import DeadLetterSummary
from .inspection import subscription_backlog, wait_until_empty
from .keys import Keys, SourceKeys
from .known_queues import KnownQueue
from .logs import Logs
from .members import reads_of
from .replay_names import replay_of
from .sources import AuditLevel, Source
from .subscriptions import Subscription
from .work_queues import WorkQueue

__all__ = ["QueueBroker"]


class QueueBroker(Broker):
    """Queues and subscriptions of one namespace. See `RedisStreamsBroker` for the parameters."""

    queues: set[str]

    def __init__(
        self,
        middleware: list[Middleware] | None,
        *,
        url: str | None,
        namespace: str | None,
        settings: Settings | None,
    ) -> None:
        self.settings = settings or Settings.load()
        self.keys = Keys(namespace or self.settings.namespace)
        self.endpoint = Endpoint(self.settings.redis.url if url is None else url)
        self._retry = RetryPolicy(
            self.settings.redis.max_retries, float(self.settings.redis.retry_delay)
        )
        self._window_ms = int(self.settings.event_bus.idempotency_window * 1000)
        self._links = LinkPool(self.endpoint, self._retry)
        bus = self.settings.event_bus
        self._pressure = Backpressure(
            bus.max_queue_size,
            block_s=bus.block_timeout if bus.when_full == "block" else 0.0,
            shed=frozenset(bus.shed),
        )
        self.logs = Logs(self.keys, self._links, window_ms=self._window_ms, pressure=self._pressure)
        self.subscriptions: dict[str, Subscription] = {}
        self._work_queues: dict[str, WorkQueue] = {}
        self._dead_letters = DeadLetters(
            self._links, self.keys, lambda name: reads_of(self._sources(name))
        )
        super().__init__(middleware)  # adds the middleware, some of which asks for the logs
        self.logger = get_logger(__name__, type(self))
        self.queues: set[str] = set()

    def add_middleware(
        self,
        middleware: Middleware,
        *,
        before: type[Middleware] | None = None,
        after: type[Middleware] | None = None,
    ) -> None:
        """As Dramatiq's. Of several that derive from `Carrier` the last one is asked."""
        super().add_middleware(middleware, before=before, after=after)
        if isinstance(middleware, Carrier):
            self.logs.carrier = middleware

    # -- declaring -----------------------------------------------------------------------------

    def declare_subscription(self, subscription: Subscription) -> None:
        """Makes queue `subscription.name` read logs. Before its actor is declared.

        Raises:
          HandlerDefinitionError: A subscription, an actor or a work queue has this name.
        """
        name = subscription.name
        if name in self.subscriptions or name in self.queues or name in self.actors:
            raise HandlerDefinitionError(
                f"A handler, actor or queue named {name!r} is declared already. "
                "Give this one another name: @on(..., name=...)."
            )
        self.subscriptions[name] = subscription

    def get_declared_queues(self) -> set[str]:
        """A copy of the names of all declared queues."""
        return set(self.queues)

    # -- administration ------------------------------------------------------------------------

    def cancel(self, queue_name: str, *messages: str | Message[Any]) -> None:
        """Cancels messages of a work queue: queued, delayed, or waiting for a retry.

        Once this has returned, no worker claims one of them for running any more, and none that
        runs at the moment is retried. What runs is not interrupted, nor what was claimed before and
        waits in a process for a thread. A cancelled message is dropped when it is met, with a line
        in the worker's log; no middleware hook is called. Unknown ids are no error: a message may
        be cancelled before it is enqueued by a pipeline or a retry.

        An id stays cancelled for eight days beyond the time at which the queue's last delayed
        message is due, or until it is enqueued again by hand. Thread-safe. Harmless to repeat.

        Parameters:
          messages: Their ids, or what `send` returned.

        Raises:
          ValueError: No message is named, or something is no id.
          HandlerDefinitionError: It is a subscription: events are facts.
          BrokerError: The server cannot be reached or refused.
        """
        self._refuse_subscription(queue_name)
        ids = [one.message_id if isinstance(one, Message) else one for one in messages]
        wrong = [one for one in ids if not isinstance(one, str)]
        if wrong or not ids:
            what = f"{wrong[0]!r:.80} is no id" if wrong else "no message is named"
            raise ValueError(
                f'{what}: cancel("{queue_name}", message_id, ...) needs ids of messages.'
            )
        self._work_queue(queue_name).cancel(self._links, ids)

    def flush(self, queue_name: str) -> None:
        """Drops what a work queue holds: queued, running and delayed messages.

        Raises:
          HandlerDefinitionError: It is a subscription: events stay in their log.
        """
        if queue_name in self.subscriptions:
            raise HandlerDefinitionError(
                f"{queue_name!r} is a subscription; its events stay in their log."
            )
        self._work_queue(queue_name).flush(self._links)

    def flush_all(self) -> None:
        """Drops what all declared work queues hold."""
        for name in self.get_declared_queues() - set(self.subscriptions):
            self.flush(name)

    def join(self, queue_name: str, *, timeout: int | None = None) -> None:
        """Waits until a queue holds nothing: ready, running, parked or delayed.

        Parameters:
          timeout: Milliseconds; None waits for ever.

        Raises:
          QueueJoinTimeout: It still held something.
          QueueNotFound: It was never declared.
        """
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        wait_until_empty(queue_name, lambda: self.backlog(queue_name), timeout)

    def backlog(self, queue_name: str) -> int:
        """What a queue still has to handle: unread, pending, and delayed entries.

        Exact for a work queue. For a subscription, the unread entries of a stream whose lag the
        server does not know are counted as one; zero means zero.
        """
        subscription = self.subscriptions.get(queue_name)
        if subscription is None:
            return self._work_queue(queue_name).backlog(self._links)
        sources = self._sources(queue_name)
        return self._links.call(lambda link: subscription_backlog(link, sources))

    def server_time(self) -> datetime:
        """The server's clock, UTC: what the times of dead letters go by."""
        seconds, micros = self._links.call(lambda link: link.send("TIME"))
        return datetime.fromtimestamp(int(seconds), UTC) + timedelta(microseconds=int(micros))

    def known_queues(self) -> dict[str, KnownQueue]:
        """All work queues and subscriptions that a worker of this namespace has ever read, by name.

        Raises:
          BrokerError: The server cannot be reached or refused.
        """
        return self._dead_letters.known()

    def dead_letters(
        self,
        queue_name: str,
        where: DeadLetterFilter = EVERY,
        *,
        after: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[DeadLetterEntry]:
        """The dead letters of a work queue or subscription, oldest first, read page by page.

        The queue need not be declared in this process. The order is that of the server's clock.
        Letters that come, or go, while it is read may be among them or not.

        Parameters:
          where: Only these.
          after: Begin behind the letter of this id, which need not be there any more.
          limit: At most so many.
          newest_first: The other way round, `after` too.

        Raises:
          ValueError: An id in `after` or `where` is none.
          BrokerError: The server cannot be reached or refused; also while it is read.
        """
        return self._dead_letters.read(
            queue_name, where, after=after, limit=limit, newest_first=newest_first
        )

    def count_dead_letters(self, queue_name: str, where: DeadLetterFilter = EVERY) -> int:
        """How many there are; reads them if there is a filter. Raises as `dead_letters`."""
        return self._dead_letters.count(queue_name, where)

    def dead_letter(self, queue_name: str, letter_id: str) -> DeadLetterEntry:
        """One dead letter. Raises as `dead_letters`, and

        Raises:
          DeadLetterNotFound: It is not there.
        """
        return self._dead_letters.get(queue_name, letter_id)

    def dead_letter_summary(self, queue_name: str) -> DeadLetterSummary:
        """How many there are, and of which causes and bugs the newest 10,000 are."""
        return self._dead_letters.summary(queue_name)

    def requeue_dead_letters(
        self,
        queue_name: str,
        where: DeadLetterFilter,
        *,
        by: str | None = None,
        on_outcome: OnOutcome | None = None,
    ) -> Counter[str]:
        """Lets dead letters run again, as if for the first time.

        A message goes to the end of its lane, without the state of its retries; the limit on
        backlog does not hold for it. An event becomes pending again at its place in the log, for
        this subscription alone.

        Each letter goes back, and leaves the dead letters, in one step, with an audit record; the
        call as a whole is not atomic. What becomes a letter meanwhile is left alone. Whoever else
        does the same, each letter goes back once. Harmless to repeat. Thread-safe.

        Parameters:
          where: Which ones; `DeadLetterFilter()` means all.
          by: Who asks for it, for the audit; default: user@host.
          on_outcome: Called with each letter's id and outcome.

        Returns:
          Letters by outcome: `requeued`; `gone`: somebody was faster, or there is no such letter;
          and, the letter being kept, `trimmed`: the log does not have the event any more,
          `pending`: it is running or waiting to run, `no_group`: the subscription does not exist.

        Raises:
          ValueError: An id in `where` is none.
          BrokerError: The server cannot be reached or refused; some may have been put back.
        """
        return self._dead_letters.requeue(queue_name, where, by=by, on_outcome=on_outcome)

    def purge_dead_letters(
        self,
        queue_name: str,
        where: DeadLetterFilter,
        *,
        by: str | None = None,
        on_outcome: OnOutcome | None = None,
    ) -> Counter[str]:
        """Deletes dead letters for good, each with an audit record. As `requeue_dead_letters`.

        Returns:
          Letters by outcome: `purged`, `gone`.
        """
        return self._dead_letters.purge(queue_name, where, by=by, on_outcome=on_outcome)

    def fence(self, queue_name: str, consumer: str) -> None:
        """Declares a consumer dead: nothing it still sends for this queue is committed."""
        with self.client() as client:
            for source in self._sources(queue_name):
                client.set(source.keys.fence(consumer), 1, ex=86_400)

    def client(self) -> redis.Redis:
        """A redis-py client of the broker's server; close it after use."""
        return self.endpoint.client()

    def lanes_beside(self, source: Source) -> list[SourceKeys]:
        """The keys of the other lanes of a work queue's lane; none for a log's stream."""
        if source.is_log:
            return []
        lanes = self._work_queue(source.group).sources
        return [one.keys for one in lanes if one.keys.entries != source.keys.entries]

    # -- parts ---------------------------------------------------------------------------------

    def _refuse_subscription(self, name: str) -> None:
        if name in self.subscriptions:
            raise HandlerDefinitionError(
                f"{name!r} handles events and takes no messages: publish an event of its type "
                "instead of sending to it."
            )

    def _work_queue(self, name: str) -> WorkQueue:
        queue = self._work_queues.get(name)
        if queue is None:
            queue = self._work_queues.setdefault(name, WorkQueue(self.keys, name))
        return queue

    def _sources(self, queue_name: str) -> list[Source]:
        subscription = self.subscriptions.get(queue_name)
        if subscription is None:
            return self._work_queue(queue_name).sources
        audit = self.settings.audit
        return subscription.sources(
            self.keys,
            {name: AuditLevel(level) for name, level in audit.overrides.items()},
            AuditLevel(audit.level),
        )

    def _group_start(self, queue_name: str) -> str:
        subscription = self.subscriptions.get(queue_name)
        if subscription is None or replay_of(self.keys.namespace) is not None:
            return "0"  # workers of a replay may come later than its first events
        return subscription.group_start
