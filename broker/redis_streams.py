"""The broker: Dramatiq on Redis Streams. See `RedisStreamsBroker`."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

from dramatiq import Message, Worker
from dramatiq.errors import QueueNotFound
from dramatiq.middleware import Middleware, MiddlewareError, Retries

from ..errors import BacklogFull, BatchFailed, BrokerError
from ..settings import Settings
from .asking import Asking
from .batch import Batch
from .claimed import Claimed
from .consumer import StreamConsumer, end_unrun, hand_back
from .current import current_delivery
from .delivery import Delivery
from .gatekeeping import Gatekeeper
from .groups import groups_maker
from .guard_subjects import claimed_subject, whole_subject
from .guarded_broker import GuardedBroker
from .guards import Guards
from .health import MAX_SILENCE_S, HealthReport
from .hooks import Hooks
from .intake import Intake
from .outages import Outages
from .process import ConsumingProcess
from .server import check_server
from .settlements import Enqueue
from .tuning import tune
from .turning_away import TurnedAway

__all__ = ["RedisStreamsBroker"]


class RedisStreamsBroker(GuardedBroker):
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
      - Backlogs are bounded (`event_bus.max_queue_size`; 0 = no limit): where a work queue holds so
        many ready and running messages, or a subscription so many unread and unsettled events of a
        stream, `enqueue` and `publish` raise BacklogFull, or first wait for room
        (`event_bus.when_full`), or drop and count, for the types that `event_bus.shed` names.
        Delayed messages do not count. Retries, emits and what follows a handler are never refused.

    Thread-safe. May be made before a fork; connections are made in the process that uses them.

    Parameters:
      url: redis://, rediss://, unix:// or embedded://PATH; default: the settings' `redis.url`.
      namespace: Prefix of every key; default: the settings' `namespace`.
      settings: Everything else; default: `Settings.load()`, from file and environment.
      middleware: As Dramatiq's; None means Dramatiq's default list.

    Raises:
      ConfigurationError: The URL cannot be used, or settings are wrong.
    """

    #: The broker that was built because none was set when one was needed; see `default_broker`.
    implicit: ClassVar[RedisStreamsBroker | None] = None

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str | None = None,
        settings: Settings | None = None,
        middleware: list[Middleware] | None = None,
    ) -> None:
        super().__init__(middleware, url=url, namespace=namespace, settings=settings)
        self._hooks = Hooks(self)
        self._asking = Asking(self, self._hooks)
        self._lock = threading.Lock()  # guards _process
        self._process: ConsumingProcess | None = None
        #: The one that reads, from its boot until its stop begins.
        self._worker: Worker | None = None
        #: All that were booted and do not stop yet.
        self._workers: list[Worker] = []
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
                if self._process is not None:
                    self._process.running[threading.get_ident()] = delivery
                try:
                    self._asking.ask(delivery)
                except TurnedAway:
                    # So that Dramatiq does not call the actor; and nobody hears of this delivery.
                    delivery.failed = True
                    return
        elif signal in ("ack", "nack") and _is_turned_away(args[0]):
            return
        elif signal == "worker_boot":
            self._boot(args[0])
            if self._in_command_line and self.settings.workers.tune:
                tune()
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
        if signal in ("process_message", "ack", "nack") and _is_turned_away(args[0]):
            return
        if signal == "process_message" and isinstance(args[0], Delivery):
            args[0].done()
        elif signal == "process_boot":
            self._in_command_line = True
        batch_failed = False
        if signal == "process_message" and isinstance(args[0], Batch):
            batch = args[0]
            if isinstance(kwargs.get("exception"), BatchFailed):
                kwargs["exception"] = self._asking.fail_members(batch, kwargs["exception"])
            raised = kwargs.get("exception") is not None
            batch_failed = raised and (batch.is_split or batch.members_failed)
        for hook, middleware in self._hooks.after(signal):
            if batch_failed and isinstance(middleware, Retries):
                continue  # it is not the batch that is retried
            try:
                hook(self, *args, **kwargs)
            except Exception:
                self.logger.critical(
                    "Unexpected failure in after_%s of %r.", signal, middleware, exc_info=True
                )
        if signal == "worker_shutdown" and self._process is not None:
            # Again: a consumer that was only starting when the stop began has begun to read since.
            self._process.stop_reading(args[0], unless=self._read_by_others(args[0]))
            self._process.flush()

    # -- declaring -----------------------------------------------------------------------------

    def declare_queue(self, queue_name: str) -> None:
        """Declares a queue. Idempotent; touches no server."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    # -- enqueuing -----------------------------------------------------------------------------

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Adds a message to its work queue, or records the retry of a running delivery.

        Within a delivery, after its handler has ended, the message is kept and committed with the
        settle; at any other time it is stored before this returns.

        What is delayed, retried, or committed with a settle is never refused for want of room. A
        handler that fills its own queue and waits for room there (`when_full: block`) holds a
        thread that could make some: it may wait in vain, and is retried like any that fails.

        Parameters:
          delay: Milliseconds.

        Raises:
          BacklogFull: As many messages as may be are ready or running (with `when_full: block`:
            still, after the wait). Not stored.
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
                    queue.enqueue(self._links, [wire], self._pressure)
        except Exception as error:
            if isinstance(error, BacklogFull):
                error.left = (message,)
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
        stored, and enqueuing all again would store those twice. Where there is room for some of a
        queue's messages only, the first ones are stored; BacklogFull says which ones of the call
        are `left`. Within a delivery, as `enqueue`.

        Parameters:
          messages: Built by `actor.message(...)` or `actor.message_with_options(...)`.
          delay: Milliseconds, for all of them.

        Raises:
          As `enqueue`.
        """
        current = current_delivery.get()
        if current is not None and current.done_ns > 0 and not current.settled:
            return [self.enqueue(message, delay=delay) for message in messages]
        wires: dict[str, list[tuple[int, Enqueue]]] = {}
        stored: set[int] = set()
        for at, message in enumerate(messages):
            self.emit_before("enqueue", message, delay)
            self._refuse_subscription(message.queue_name)
            wire = self._work_queue(message.queue_name).to_enqueue(message, delay)
            wires.setdefault(message.queue_name, []).append((at, wire))
        for name, several in wires.items():
            try:
                queue = self._work_queue(name)
                queue.enqueue(self._links, [wire for _, wire in several], self._pressure)
            except BacklogFull as full:
                stored |= {at for at, _ in several[: full.accepted]}
                self._enqueued([m for at, m in enumerate(messages) if at in stored], delay)
                full.accepted = len(stored)
                full.left = tuple(m for at, m in enumerate(messages) if at not in stored)
                raise
            stored |= {at for at, _ in several}
        self._enqueued(messages, delay)
        return list(messages)

    def _enqueued(self, messages: Sequence[Message[Any]], delay: int | None) -> None:
        for message in messages:
            self.emit_after("enqueue", message, delay)

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
        return StreamConsumer(
            intake,
            process.committer,
            prefetch=prefetch,
            timeout_ms=timeout,
            subscription=self.subscriptions.get(queue_name),
            links=self._links,
        )

    def close(self) -> None:
        """Hands back what was not run, settles what was, and closes the connections."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.pid == os.getpid():
            process.close()
        self._links.close()
        super().close()
        self.endpoint.close()

    def health(
        self, *, max_silence_s: float = MAX_SILENCE_S, max_running_s: float | None = None
    ) -> HealthReport:
        """Whether this process does its work; does not ask the server.

        A server that is down is no problem of this process. See `health` for what is.

        Parameters:
          max_silence_s: How long something may make no progress though it could, seconds.
          max_running_s: How long a handler may run, seconds; None: for ever.

        Returns:
          This process, if it consumes, and what is wrong with it. Thread-safe.
        """
        process = self._process
        if process is None or process.pid != os.getpid():
            return HealthReport([], [])
        return process.health(max_silence_s=max_silence_s, max_running_s=max_running_s)

    @property
    def leads(self) -> bool:
        """Whether this process is the one that looks for dead ones in its namespace, as far as it
        knows: for what one process is to do for all. For a moment two may say so. Thread-safe."""
        process = self._process
        return process is not None and process.pid == os.getpid() and process.leads

    def idle_consumer(self) -> str | None:
        """The name under which this process has read, if it reads nothing now and has settled all;
        None if it does read, or never did. It stays listed until `close`. Thread-safe."""
        process = self._process
        if process is None or process.pid != os.getpid() or not process.is_idle:
            return None
        return process.identity.consumer

    def outages(self) -> list[tuple[str, Outages]]:
        """How often this process lost its connections, and found them again.

        Returns:
          What each is for (`intake`, `committer`, `heartbeat`, `control`) and its counts, which go
          on; empty where nothing is consumed. Thread-safe.
        """
        process = self._process
        if process is None or process.pid != os.getpid():
            return []
        return process.outages()

    @property
    def guards(self) -> Guards | None:
        """What may run now, as this process knows it; None where nothing is consumed."""
        process = self._process
        return None if process is None or process.pid != os.getpid() else process.guards

    # -- parts ---------------------------------------------------------------------------------

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
            unblocker=process.unblocker,
            members=self.keys.members,
            identity=process.identity,
            in_flight=process.in_flight,
            hand_back=lambda claimed: hand_back(process.committer, None, claimed),
            end=lambda claimed, how: end_unrun(process.committer, claimed, how),
            threads=self._threads,
            batch_size=self.settings.processor.batch_size,
            window_ms=self._window_ms,
            subscription=subscription,
            prepare=self._look_ahead,
            gatekeeper=Gatekeeper(
                process.guards,
                describe=partial(claimed_subject, self),
                whole=lambda: whole_subject(self, queue_name),
            ),
        )

    def _look_ahead(self, claimed: list[Claimed]) -> list[Claimed]:
        """Asks the hooks `before_buffering(broker, claimed)`. They are called in an intake's thread
        with what one read has brought, of one queue, and return the same with what they have found
        out about all of it at once, which saves the workers' threads a round trip each. They must
        return soon."""
        for hook, middleware in self._hooks.before("buffering"):
            try:
                claimed = hook(self, claimed) or claimed
            except Exception:
                self.logger.critical(
                    "Unexpected failure in before_buffering of %r.", middleware, exc_info=True
                )
        return claimed

    def _consuming(self) -> ConsumingProcess:
        with self._lock:
            if self._process is None or self._process.pid != os.getpid():
                self._process = ConsumingProcess(
                    self.endpoint,
                    self._retry,
                    self.keys.members,
                    self.keys.guards,
                    window_ms=self._window_ms,
                    worker=lambda: self._worker,
                    housekeeping=self._dead_letters.expire_by(
                        self.settings.event_bus.dead_letter_ttl
                    ),
                    # Hooks `after_settle(broker, batch, outcome, at_ns)`; see `OnSettled`.
                    on_settled=partial(self.emit_after, "settle"),
                )
            return self._process

    def _boot(self, worker: Worker) -> None:
        """Checks the server and makes the groups, so that a booted worker misses no event."""
        self._threads = worker.worker_threads
        self._worker = worker
        self._workers.append(worker)
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
        names = sorted(self.queues & set(wanted))
        self.logger.info(
            "Reading %s of namespace %s on %s with %d threads.",
            ", ".join(names) or "no queue",
            self.keys.namespace,
            self.endpoint.shown,
            self._threads,
        )
        other = self.implicit
        if other is not None and other is not self and other.actors:
            self.logger.warning(
                "%s: declared on a broker that was built from the settings, because set_broker was "
                "called only afterwards. They do not run here: call set_broker first.",
                ", ".join(sorted(other.actors)),
            )

    def _stop_reading(self, worker: Worker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
        if self._worker is worker:
            self._worker = self._workers[-1] if self._workers else None
        if self._process is not None:
            self._process.stop_reading(worker, unless=self._read_by_others(worker))

    def _read_by_others(self, worker: Worker) -> set[str]:
        return {name for one in self._workers if one is not worker for name in one.consumers}


def _is_turned_away(message: Any) -> bool:
    return isinstance(message, Delivery) and message.turned_away
