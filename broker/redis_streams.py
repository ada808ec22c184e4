"""The broker: Dramatiq on Redis Streams. See `RedisStreamsBroker`."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import redis
from dramatiq import Broker, Message, Worker
from dramatiq.errors import QueueNotFound
from dramatiq.logging import get_logger
from dramatiq.middleware import Middleware, MiddlewareError

from ..errors import BrokerError, HandlerDefinitionError
from ..settings import Settings
from .connections import Endpoint, LinkPool, RetryPolicy
from .consumer import StreamConsumer, hand_back
from .current import current_delivery
from .dead_letters import DeadLetterEntry, read_dead_letters
from .delivery import Delivery
from .groups import groups_maker
from .hooks import Hooks
from .inspection import subscription_backlog, wait_until_empty
from .intake import Intake
from .keys import Keys
from .logs import Logs
from .process import ConsumingProcess
from .server import check_server
from .settlements import Enqueue
from .sources import AuditLevel, Source
from .subscriptions import Subscription
from .work_queues import WorkQueue

__all__ = ["RedisStreamsBroker"]


class RedisStreamsBroker(Broker):
    """A Dramatiq broker on Redis Streams (Redis 7.0 or newer, Valkey 8 or newer).

    Plain actors work as with any broker: `.send()` adds to a work queue, whose entries are deleted
    when settled. Handlers declared with `@on` read logs of typed events instead; each has its own
    consumer group, so every subscription handles every event.

    Guarantees:
      - What `enqueue` or `publish` accepted is handled at least once, or ends in the dead letters
        with its cause.
      - Enqueuing and publishing may be repeated after a lost connection without storing twice; the
        broker itself does.
      - What a handler emits, and what middleware enqueues after it (pipelines, callbacks), is
        committed in one step with the end of its delivery.
      - A retry and the end of the delivery that failed are one step: neither is lost nor doubled.
      - Delayed messages wait on the server, never in a worker's memory.
      - A message or event that cannot be decoded ends in the dead letters, byte for byte.

    Thread-safe. May be made before a fork; connections are made in the process that uses them.

    Parameters:
      url: redis://, rediss://, unix:// or embedded://PATH; default: the settings' `redis.url`.
      namespace: Prefix of every key; default: the settings' `namespace`.
      settings: Everything else; default: `Settings()`, which does not read the settings file.
      middleware: As Dramatiq's; None means Dramatiq's default list.

    Raises:
      ConfigurationError: The URL cannot be used.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str | None = None,
        settings: Settings | None = None,
        middleware: list[Middleware] | None = None,
    ) -> None:
        super().__init__(middleware)
        self._hooks = Hooks(self)
        self.logger = get_logger(__name__, type(self))
        self.settings = settings or Settings()
        self.queues: set[str] = set()
        self.keys = Keys(namespace or self.settings.namespace)
        self.endpoint = Endpoint(url or self.settings.redis.url)
        self._retry = RetryPolicy(
            self.settings.redis.max_retries, float(self.settings.redis.retry_delay)
        )
        self._window_ms = int(self.settings.event_bus.idempotency_window * 1000)
        self._links = LinkPool(self.endpoint, self._retry)
        self.logs = Logs(self.keys, self._links, window_ms=self._window_ms)
        self.subscriptions: dict[str, Subscription] = {}
        self._work_queues: dict[str, WorkQueue] = {}
        self._lock = threading.Lock()  # guards _process
        self._process: ConsumingProcess | None = None
        self._in_command_line = False
        #: Worker threads of this process; known once a worker boots.
        self._threads = 8

    # -- signals -------------------------------------------------------------------------------

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Calls the `before_` hooks that are overridden; see `Hooks`."""
        if signal == "process_message":
            delivery = args[0]
            if isinstance(delivery, Delivery):
                delivery.start(self.logs)
                current_delivery.set(delivery)
        elif signal == "worker_boot":
            self._boot(args[0])
        elif signal == "worker_shutdown":
            self._stop_reading(args[0])
        for hook, middleware in self._hooks.before(signal):
            try:
                hook(self, *args, **kwargs)
            except MiddlewareError:
                raise
            except Exception:
                self.logger.critical(
                    "Unexpected failure in before_%s of %r.", signal, middleware, exc_info=True
                )

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Calls the `after_` hooks that are overridden; see `Hooks`."""
        if signal == "process_message" and isinstance(args[0], Delivery):
            args[0].done()
        elif signal == "process_boot":
            self._in_command_line = True
        for hook, middleware in self._hooks.after(signal):
            try:
                hook(self, *args, **kwargs)
            except Exception:
                self.logger.critical(
                    "Unexpected failure in after_%s of %r.", signal, middleware, exc_info=True
                )
        if signal == "worker_shutdown" and self._process is not None:
            self._process.flush()

    # -- declaring -----------------------------------------------------------------------------

    def declare_queue(self, queue_name: str) -> None:
        """Declares a queue. Idempotent; touches no server."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

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

    # -- enqueuing -----------------------------------------------------------------------------

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Adds a message to its work queue, or records the retry of a running delivery.

        Within a delivery, after its handler has ended, the message is kept and committed with the
        settle; at any other time it is stored before this returns.

        Parameters:
          delay: Milliseconds.

        Raises:
          BrokerConnectionError: The server cannot be reached.
          BrokerError: The server refused it.
          HandlerDefinitionError: The queue belongs to a subscription: publish an event instead.
        """
        current = current_delivery.get()
        after_handler = current is not None and current.done_ns > 0 and not current.settled
        try:
            self.emit_before("enqueue", message, delay)
            if isinstance(message, Delivery) and message is current and message._exception:
                message.retry_delay_ms = max(0, delay or 0)
            else:
                self._refuse_subscription(message.queue_name)
                queue = self._work_queue(message.queue_name)
                wire = queue.to_enqueue(message, delay)
                if current is not None and after_handler:
                    current.messages.append(wire)
                else:
                    queue.enqueue(self._links, [wire])
        except Exception as error:
            if current is not None and after_handler:
                # The hook that called us may be about to swallow this: the delivery must not
                # count as done without what should follow it.
                current.failure = error
            raise
        self.emit_after("enqueue", message, delay)
        return message

    def enqueue_many(
        self, messages: Sequence[Message[Any]], *, delay: int | None = None
    ) -> list[Message[Any]]:
        """Adds messages to their work queues in few round trips.

        Messages of one queue and lane keep their order. Not atomic: after an error some may be
        stored, and enqueuing all again would store those twice. Within a delivery, as `enqueue`.

        Parameters:
          messages: Built by `actor.message(...)` or `actor.message_with_options(...)`.
          delay: Milliseconds, for all of them.

        Raises:
          As `enqueue`.
        """
        current = current_delivery.get()
        if current is not None and current.done_ns > 0 and not current.settled:
            return [self.enqueue(message, delay=delay) for message in messages]
        wires: dict[str, list[Enqueue]] = {}
        for message in messages:
            self.emit_before("enqueue", message, delay)
            self._refuse_subscription(message.queue_name)
            wire = self._work_queue(message.queue_name).to_enqueue(message, delay)
            wires.setdefault(message.queue_name, []).append(wire)
        for name, several in wires.items():
            self._work_queue(name).enqueue(self._links, several)
        for message in messages:
            self.emit_after("enqueue", message, delay)
        return list(messages)

    # -- consuming -----------------------------------------------------------------------------

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> StreamConsumer:
        """Deliveries of one queue or subscription, for Dramatiq's worker.

        Parameters:
          prefetch: Deliveries that may be out and not acked.
          timeout: How long one step of the iteration waits, ms.

        Raises:
          QueueNotFound: It was never declared.
        """
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        process = self._consuming()
        intake = process.intake(queue_name, lambda process: self._intake(queue_name, process))
        return StreamConsumer(intake, process.committer, prefetch=prefetch, timeout_ms=timeout)

    # -- administration ------------------------------------------------------------------------

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

        For a subscription the unread entries of one stream count at most once: zero means zero.
        """
        subscription = self.subscriptions.get(queue_name)
        if subscription is None:
            return self._work_queue(queue_name).backlog(self._links)
        sources = self._sources(queue_name)
        return self._links.call(lambda link: subscription_backlog(link, sources))

    def dead_letters(self, queue_name: str) -> list[DeadLetterEntry]:
        """The dead letters of a work queue or subscription, oldest first."""
        keys = {source.keys.dead for source in self._sources(queue_name)}
        with self.client() as client:
            found = [letter for key in sorted(keys) for letter in read_dead_letters(client, key)]
        return sorted(found, key=lambda letter: letter.at_ms)

    def fence(self, queue_name: str, consumer: str) -> None:
        """Declares a consumer dead: nothing it still sends for this queue is committed."""
        with self.client() as client:
            for source in self._sources(queue_name):
                client.set(source.keys.fence(consumer), 1, ex=86_400)

    def client(self) -> redis.Redis:
        """A redis-py client of the broker's server; close it after use."""
        return self.endpoint.client()

    def close(self) -> None:
        """Hands back what was not run, settles what was, and closes the connections."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.pid == os.getpid():
            process.close()
        self._links.close()
        self.endpoint.close()

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

    def _intake(self, queue_name: str, process: ConsumingProcess) -> Intake:
        subscription = self.subscriptions.get(queue_name)
        return Intake(
            queue_name,
            self._sources(queue_name),
            start=self._group_start(queue_name),
            delayed=self._work_queue(queue_name).delayed if subscription is None else None,
            rotate=subscription is not None and subscription.rotates,
            endpoint=self.endpoint,
            retry=self._retry,
            members=self.keys.members,
            identity=process.identity,
            in_flight=process.in_flight,
            hand_back=lambda claimed: hand_back(process.committer, None, claimed),
            threads=self._threads,
            batch_size=self.settings.processor.batch_size,
        )

    def _group_start(self, queue_name: str) -> str:
        subscription = self.subscriptions.get(queue_name)
        return "0" if subscription is None else subscription.group_start

    def _consuming(self) -> ConsumingProcess:
        with self._lock:
            if self._process is None or self._process.pid != os.getpid():
                self._process = ConsumingProcess(
                    self.endpoint, self._retry, self.keys.members, window_ms=self._window_ms
                )
            return self._process

    def _boot(self, worker: Worker) -> None:
        """Checks the server and makes the groups, so that a booted worker misses no event."""
        self._threads = worker.worker_threads
        wanted = worker.consumer_whitelist or self.queues
        try:
            self._links.call(check_server)
            for name in sorted(self.queues & set(wanted)):
                subscription = self.subscriptions.get(name)
                for cls in subscription.event_classes if subscription else ():
                    self.logs.check_layout(cls)
                self._links.call(groups_maker(self._sources(name), self._group_start(name)))
        except BrokerError as error:
            if not self._in_command_line:
                raise
            # Under the command line there is nobody to catch it: one line, and Dramatiq's code
            # for a failed connection.
            self.logger.critical("%s", error)
            raise SystemExit(3) from None

    def _stop_reading(self, worker: Worker) -> None:
        if self._process is not None:
            self._process.stop_reading(worker)
