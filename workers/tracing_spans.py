"""The spans of `Tracing`, by OpenTelemetry's conventions for messaging.

- A publish is a `send` span (PRODUCER). Its context goes into those of its events that have none;
  contexts that are there already are linked to.
- A message of a plain actor gets a `create` span (PRODUCER), which ends at once: whether and when
  the message was stored is not its matter.
- A run of a handler is a `process` span (CONSUMER). It is linked to the context of each event that
  it handles, as the conventions ask; and where it handles one, it is its child, which they allow.

What a sampler may ask for is given when a span begins; everything else only where it is recorded.

This module and `trace_context` are the only ones that import OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import Token
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from dramatiq import Message
from dramatiq.errors import RateLimitExceeded, Retry
from dramatiq.middleware import SkipMessage
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
)

from ..broker import Delivery, Logs
from ..broker.sources import Source
from ..events import Event
from .trace_context import extracted, headers_of

__all__ = ["OPTION", "Run", "Spans"]

#: Option of a plain actor's message that holds its trace context.
OPTION = "trace"
#: What raises them has not failed: it asks for another time.
_NO_ERRORS = (SkipMessage, Retry, RateLimitExceeded)
_SCHEMA = "https://opentelemetry.io/schemas/1.30.0"
#: No parent: not what happens to be the present span of a worker's thread either.
_NOTHING = Context()

Attributes = dict[str, Any]


class Run(NamedTuple):
    """A run of a handler that has begun."""

    span: Span
    token: Token[Context]


class _Start(NamedTuple):
    """What the spans of a source begin with."""

    name: str
    attributes: Attributes


class Spans:
    """Begins and ends spans. Thread-safe.

    Parameters:
      version: Of this library.
      provider: Default: the global one, also where it is set later.
    """

    def __init__(self, version: str, provider: trace.TracerProvider | None) -> None:
        self._provider = provider
        self._tracer = trace.get_tracer("streamatiq", version, provider, _SCHEMA)
        #: By server, group and name of the source. Setting an item is atomic.
        self._starts: dict[tuple[str, str, str], _Start] = {}
        self._servers: dict[str, Attributes] = {}

    # -- handling ------------------------------------------------------------------------------

    def begin(self, server: str, deliveries: Sequence[Delivery]) -> Run:
        """Begins the run of a handler, in the thread that is going to run it.

        Parameters:
          server: URL of the server, as it may be shown.
          deliveries: What it is given: one, or a batch of one source.
        """
        first = deliveries[0]
        at = (server, first.source.group, first.source.name)
        start = self._starts.get(at) or self._start(server, first.source)
        links, context = self._origins(deliveries)
        attributes = start.attributes
        if len(deliveries) > 1:
            attributes = {**attributes, "messaging.batch.message_count": len(deliveries)}
        span = self._tracer.start_span(
            start.name,
            context,
            SpanKind.CONSUMER,
            attributes,
            links,
            first.started_ns or None,
        )
        if span.is_recording():
            span.set_attribute("messaging.client.id", first.consumer)
            if len(deliveries) == 1:
                span.set_attributes(_about(first))
        return Run(span, attach(trace.set_span_in_context(span)))

    def end(self, run: Run, delivery: Delivery) -> None:
        """Ends it, in the same thread, once its outcome is known."""
        detach(run.token)
        span = run.span
        if span.is_recording():
            span.set_attribute("streamatiq.outcome", delivery.outcome)
            error = delivery._exception or delivery.failure
            if error is not None and not isinstance(error, _NO_ERRORS):
                _failed(span, error)
        span.end(delivery.done_ns or None)

    def abandon(self, run: Run) -> None:
        """Ends a run of which nobody told the end."""
        detach(run.token)
        run.span.end()

    def _origins(self, deliveries: Sequence[Delivery]) -> tuple[list[Link], Context]:
        if len(deliveries) == 1:
            origin = _origin(deliveries[0])
            if origin is None:
                return [], _NOTHING
            parent = trace.NonRecordingSpan(origin)
            return [Link(origin)], trace.set_span_in_context(parent, _NOTHING)
        links = [
            Link(origin, _about(one)) for one in deliveries if (origin := _origin(one)) is not None
        ]
        return links, _NOTHING

    def _start(self, server: str, source: Source) -> _Start:
        cls = source.event_class
        destination = source.group if cls is None else cls.event_type
        start = self._starts[server, source.group, source.name] = _Start(
            f"process {destination}",
            {
                **self._about_server(server),
                "messaging.operation.type": "process",
                "messaging.operation.name": "process",
                "messaging.destination.name": destination,
                "messaging.destination.partition.id": source.name.rpartition(":")[2],
                "messaging.consumer.group.name": source.group,
            },
        )
        return start

    # -- publishing ----------------------------------------------------------------------------

    @contextmanager
    def sending(self, logs: Logs, events: Sequence[Event]) -> Iterator[Sequence[Event]]:
        """Around one publish; gives its events with a trace context each."""
        known = [event for event in events if isinstance(event, Event)]
        origins = {id(event): extracted(event.trace) for event in known if event.trace is not None}
        links = [Link(origin) for origin in origins.values() if origin is not None]
        types = sorted({event.event_type for event in known})
        attributes = {
            **self._about_server(logs.server),
            "messaging.operation.type": "send",
            "messaging.operation.name": "send",
        }
        if len(types) == 1:
            attributes["messaging.destination.name"] = types[0]
        if len(events) != 1:
            attributes["messaging.batch.message_count"] = len(events)
        name = f"send {types[0]}" if len(types) == 1 else "send"
        span = self._tracer.start_span(name, None, SpanKind.PRODUCER, attributes, links)
        if span.is_recording() and len(known) == len(events) == 1:
            part = logs.part_of(known[0])
            span.set_attribute("messaging.destination.partition.id", part)
            span.set_attributes(_about_event(known[0]))
        headers = headers_of(span)
        token = attach(trace.set_span_in_context(span))
        try:
            yield [_with_trace(event, headers) for event in events]
        except BaseException as error:
            _failed(span, error)
            raise
        finally:
            detach(token)
            span.end()

    def creating(self, server: str, message: Message[Any]) -> None:
        """Gives a message that is about to be enqueued a trace context, unless it has one."""
        if OPTION in message.options:
            return
        span = self._tracer.start_span(
            f"create {message.queue_name}",
            None,
            SpanKind.PRODUCER,
            {
                **self._about_server(server),
                "messaging.operation.type": "create",
                "messaging.operation.name": "create",
                "messaging.destination.name": message.queue_name,
            },
        )
        if span.is_recording():
            span.set_attribute("messaging.message.id", message.message_id)
            span.set_attribute("streamatiq.actor", message.actor_name)
        span.end()
        if headers := headers_of(span):
            message.options[OPTION] = headers

    def present(self, event: Event) -> Event:
        """`event` with the context of the present span, where it has none."""
        if event.trace is not None:
            return event
        return _with_trace(event, headers_of(trace.get_current_span()))

    def flush(self, timeout_ms: int) -> None:
        """Lets ended spans be exported, for `timeout_ms` at most."""
        provider = self._provider or trace.get_tracer_provider()
        flush = getattr(provider, "force_flush", None)  # the SDK's, not the API's
        if flush is not None:
            flush(timeout_ms)

    def _about_server(self, url: str) -> Attributes:
        known = self._servers.get(url)
        if known is None:
            known = self._servers[url] = {"messaging.system": "redis", **_address(url)}
        return known


def _address(url: str) -> Attributes:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return {"server.address": parts.path}
    if parts.scheme in ("redis", "rediss"):
        return {
            "server.address": parts.hostname or "localhost",
            "server.port": parts.port or 6379,
        }
    return {}  # where an embedded server listens is its own matter


def _origin(delivery: Delivery) -> SpanContext | None:
    event = delivery.event
    return extracted(delivery.options.get(OPTION) if event is None else event.trace)


def _with_trace(event: Event, headers: dict[str, str]) -> Event:
    if not headers or not isinstance(event, Event) or event.trace is not None:
        return event
    return event.traced(headers)


def _about(delivery: Delivery) -> Attributes:
    """What is known of one delivery: for its span, or for its link in the span of a batch."""
    attributes: Attributes = {
        "streamatiq.attempt": delivery.attempt,
        "streamatiq.entry_id": delivery.entry_id.decode(),
    }
    if delivery.event is not None:
        attributes |= _about_event(delivery.event)
    else:
        attributes["messaging.message.id"] = delivery.message_id
        attributes["streamatiq.actor"] = delivery.actor_name
    return attributes


def _about_event(event: Event) -> Attributes:
    attributes: Attributes = {"messaging.message.id": str(event.id)}
    if event.key:
        attributes["streamatiq.key"] = event.key
    if event.correlation_id is not None:
        attributes["messaging.message.conversation_id"] = str(event.correlation_id)
    return attributes


def _failed(span: Span, error: BaseException) -> None:
    span.record_exception(error)
    name = type(error).__qualname__
    span.set_attribute("error.type", name)
    span.set_status(Status(StatusCode.ERROR, f"{name}: {error}"))
