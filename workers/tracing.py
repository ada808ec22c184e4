"""OpenTelemetry spans of publishes and handlers. See `Tracing`; what they hold: `tracing_spans`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dramatiq import Broker, Message, MessageProxy, Worker
from dramatiq.logging import get_logger
from dramatiq.middleware import Middleware

from ..broker import Batch, Delivery, Logs, RedisStreamsBroker
from ..broker.carrying import Carrier
from ..errors import ConfigurationError
from ..events import Event

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from .tracing_spans import Run

__all__ = ["Tracing"]

#: How long a stopping worker waits for spans to be exported, ms: the rest of the stop, and the ten
#: seconds that containers are given, leave no more.
FLUSH_MS = 2000


class _Local(threading.local):
    """What a worker thread runs."""

    run: Run | None = None


class Tracing(Carrier, Middleware):
    """Spans of publishes, and of each run of a handler, joined by the W3C trace context.

    `broker.add_middleware(Tracing())` switches it on, in programs that publish as well as in those
    that handle. Each publish is a span; what is published takes its context along, in `Event.trace`
    or in the option `trace` of a message. Each run of a handler is a span that continues it, and so
    on with what the handler emits, publishes and sends. A context that an event has already stays
    as it is; one that is invalid counts as none. Deliveries that are turned away (duplicates, an
    open breaker) are not run and have no span.

    Spans go where the program's OpenTelemetry SDK sends them; without one, contexts are handed on
    and nothing is recorded. A stopping worker waits two seconds at most for spans to be exported;
    one that is killed loses those that were not.

    Thread-safe. Asks the server nothing.

    Parameters:
      tracer_provider: Default: the global one, also if it is set later.

    Raises:
      ConfigurationError: OpenTelemetry is not installed: `pip install 'streamatiq[otel]'`.
    """

    def __init__(self, *, tracer_provider: TracerProvider | None = None) -> None:
        self.logger = get_logger(__name__, type(self))
        try:
            from .tracing_spans import Spans
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "opentelemetry":
                raise
            raise ConfigurationError(
                "Tracing() needs OpenTelemetry, which is not installed. "
                "Run: pip install 'streamatiq[otel]'"
            ) from error
        self._spans = Spans(version("streamatiq"), tracer_provider)
        self._local = _Local()

    # -- publishing ----------------------------------------------------------------------------

    def publishing(
        self, logs: Logs, events: Sequence[Event]
    ) -> AbstractContextManager[Sequence[Event]]:
        """A span around one publish, whose context the events take along."""
        return self._spans.sending(logs, events)

    def carrying(self, event: Event) -> Event:
        """An emitted event with the context of the handler's span, or of one within it."""
        return self._spans.present(event)

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        """Gives a message a context; a retry keeps the one that it has."""
        if isinstance(broker, RedisStreamsBroker) and not isinstance(message, MessageProxy):
            self._spans.creating(broker.endpoint.shown, message)

    # -- handling ------------------------------------------------------------------------------

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Begins the span of a run."""
        if isinstance(message, Delivery) and isinstance(broker, RedisStreamsBroker):
            if self._local.run is not None:  # its end was an error of Dramatiq's thread
                self._spans.abandon(self._local.run)
            runs = message.chosen if isinstance(message, Batch) else (message,)
            self._local.run = self._spans.begin(broker.endpoint.shown, runs)

    def after_ack(self, broker: Broker, message: MessageProxy) -> None:
        """Ends it: not before, so that what other middleware enqueues after the handler belongs to
        it, and its outcome is known."""
        run, self._local.run = self._local.run, None
        if run is not None and isinstance(message, Delivery):
            self._spans.end(run, message)

    def after_nack(self, broker: Broker, message: MessageProxy) -> None:
        """As `after_ack`."""
        self.after_ack(broker, message)

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Lets the spans out."""
        self._spans.flush(FLUSH_MS)
