"""`@on`: declares a handler of events.

One declaration makes one subscription: a Dramatiq actor, a queue and a consumer group, all of the
same name.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar, cast, overload

import dramatiq
from dramatiq import Actor
from dramatiq.middleware import AsyncIO

from ..broker import Delivery, RedisStreamsBroker, Start, Subscription, current_delivery
from ..errors import HandlerDefinitionError
from ..events import Event
from .defaults import default_broker
from .emitting import collect
from .event_loop import EventLoop
from .idempotency import Idempotency
from .idempotency_options import (
    DEFAULT_TTL,
    OnUncertain,
    TimeToLive,
    check_options,
    done_ms_of,
    given_options,
)

__all__ = ["on"]

E = TypeVar("E", bound=Event)
F = TypeVar("F", bound=Event)

#: What a handler may give back: events to emit.
Emitted = Event | Iterable[Event] | None

#: Dramatiq's rule for names of queues.
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9._-]*")
#: Longest name of a subscription, characters: it is part of keys and metric labels.
MAX_NAME = 128


# One class, two classes, more: a handler of several types takes their union, which a type variable
# over any number of classes cannot say.
@overload
def on(
    first: type[E],
    /,
    *,
    name: str | None = ...,
    priority: int = ...,
    start: Start = ...,
    broker: RedisStreamsBroker | None = ...,
    idempotency_key: Callable[[E], str | None] | None = ...,
    idempotency_ttl_s: TimeToLive = ...,
    on_uncertain: OnUncertain[E] = ...,
    **options: Any,
) -> Callable[[Callable[[E], Any]], Actor[[E], None]]: ...
@overload
def on(
    first: type[E],
    second: type[F],
    /,
    *,
    name: str | None = ...,
    priority: int = ...,
    start: Start = ...,
    broker: RedisStreamsBroker | None = ...,
    idempotency_key: Callable[[E | F], str | None] | None = ...,
    idempotency_ttl_s: TimeToLive = ...,
    on_uncertain: OnUncertain[E | F] = ...,
    **options: Any,
) -> Callable[[Callable[[E | F], Any]], Actor[[E | F], None]]: ...
@overload
def on(
    *event_classes: type[Event],
    name: str | None = ...,
    priority: int = ...,
    start: Start = ...,
    broker: RedisStreamsBroker | None = ...,
    idempotency_key: Callable[[Any], str | None] | None = ...,
    idempotency_ttl_s: TimeToLive = ...,
    on_uncertain: OnUncertain[Any] = ...,
    **options: Any,
) -> Callable[[Callable[[Any], Any]], Actor[[Any], None]]: ...
def on(
    *event_classes: type[Event],
    name: str | None = None,
    priority: int = 0,
    start: Start = "new",
    broker: RedisStreamsBroker | None = None,
    idempotency_key: Callable[[Any], str | None] | None = None,
    idempotency_ttl_s: TimeToLive = DEFAULT_TTL,
    on_uncertain: OnUncertain[Any] = "rerun",
    **options: Any,
) -> Callable[[Callable[[Any], Any]], Actor[[Any], None]]:
    """Makes a function the handler of one or more event types.

    The handler gets one event at a time. What it returns, yields or passes to `emit` are new
    events; they are committed together with the end of the delivery, or not at all. If it raises,
    the event stays in its place and is handled again as Dramatiq's Retries middleware decides; out
    of retries it becomes a dead letter. `async def` handlers run on the worker's event loop.

    Parameters:
      event_classes: Types to handle.
      name: Of the subscription; default: the module-qualified name of the function. Stored on the
        server: a renamed function without a name is another, new subscription.
      priority: Of the actor within a process; lower runs first.
      start: Where a subscription begins that the server does not know yet: `new` (events published
        after its first worker has booted) or `earliest` (all that is kept).
      broker: Default: the global broker; built from the settings where none is set.
      idempotency_key: The business key of an event; None or '' from it: the event has none. Of the
        events of one key and stream the handler runs for one only; see `Idempotency`.
      idempotency_ttl_s: How long done marks and business keys are kept at least, seconds; None: for
        ever. Default: the settings' `event_bus.idempotency_window`; for ever where the handler
        takes orders and has an `idempotency_key`.
      on_uncertain: What happens where nobody knows whether the handler did its work for a business
        key: `rerun`, `dead_letter`, or a function that asks the outside world; see `Idempotency`.
      options: Dramatiq's own actor options: max_retries, min_backoff, max_backoff, retry_when,
        throws, time_limit (ms; default: the settings' handler_timeout), max_age, ...

    Raises:
      HandlerDefinitionError: Something about the declaration is wrong.
    """
    _check_classes(event_classes)

    def declare(function: Callable[[Any], Any]) -> Actor[[Any], None]:
        chosen = broker or default_broker()
        chosen_name = _checked_name(function, name)
        idempotency = given_options(idempotency_key, idempotency_ttl_s, on_uncertain)
        done_ms = done_ms_of(chosen_name, event_classes, idempotency)
        subscription = Subscription(chosen_name, event_classes, start, done_ms=done_ms)
        _check_function(function, subscription.name)
        if idempotency:
            _need_idempotency(chosen)
            options.update(idempotency)
        _check_options(chosen, options, subscription.name)
        if start not in ("new", "earliest"):
            raise HandlerDefinitionError(
                f"Handler {subscription.name!r}: start is {start!r}; use 'new' or 'earliest'."
            )
        limit_s = chosen.settings.event_bus.handler_timeout
        if "time_limit" in chosen.actor_options and limit_s is not None:
            options.setdefault("time_limit", int(limit_s * 1000))
        run = _runner(function)
        if inspect.iscoroutinefunction(run) or inspect.iscoroutinefunction(on_uncertain):
            _need_event_loop(chosen)
        check_options(subscription.name, options, is_event=True)
        chosen.declare_subscription(subscription)
        declare_actor = dramatiq.actor(
            actor_name=subscription.name,
            queue_name=subscription.name,
            priority=priority,
            broker=chosen,
            **options,
        )
        return cast("Actor[[Any], None]", declare_actor(run))

    return declare


def _runner(function: Callable[[E], Any]) -> Callable[[E], Any]:
    """`function` with its emits collected. Called by hand, it behaves as written."""
    if inspect.isasyncgenfunction(function):
        generate = cast("Callable[[E], AsyncIterator[Event]]", function)

        @functools.wraps(function)
        async def run_async_generator(event: E) -> Any:
            delivery = _delivery_of(event)
            events = [emitted async for emitted in generate(event)]
            if delivery is None:
                return events
            return collect(delivery, events)

        return run_async_generator

    if inspect.iscoroutinefunction(function):
        coroutine = cast("Callable[[E], Awaitable[Emitted]]", function)

        @functools.wraps(function)
        async def run_async(event: E) -> Any:
            delivery = _delivery_of(event)
            result = await coroutine(event)
            if delivery is None:
                return result
            return collect(delivery, result)

        return run_async

    @functools.wraps(function)
    def run(event: E) -> Any:
        result = function(event)
        if result is None:
            return None
        delivery = _delivery_of(event)
        if delivery is None:
            return result
        return collect(delivery, result)

    return run


def _delivery_of(event: Event) -> Delivery | None:
    """The delivery that brought `event`; None where a handler is called by hand."""
    delivery = current_delivery.get()
    return delivery if delivery is not None and delivery.event is event else None


def _check_classes(event_classes: tuple[Any, ...]) -> None:
    if not event_classes or not all(
        isinstance(cls, type) and issubclass(cls, Event) and cls is not Event
        for cls in event_classes
    ):
        shown = ", ".join(getattr(cls, "__name__", repr(cls)) for cls in event_classes)
        raise HandlerDefinitionError(
            f"@on({shown}): name one or more event classes, for example @on(MarketDataEvent)."
        )
    for cls in event_classes:
        if not getattr(cls, "event_type", None):
            raise HandlerDefinitionError(
                f"@on({cls.__name__}): an abstract event class has no log. Declare it with "
                "type=..., or name its subclasses."
            )


def _checked_name(function: Callable[..., Any], name: str | None) -> str:
    chosen = name or f"{function.__module__}.{function.__qualname__}"
    if not _NAME.fullmatch(chosen) or len(chosen) > MAX_NAME:
        raise HandlerDefinitionError(
            f"{chosen!r} cannot be the name of a subscription: use a letter or _ and then letters, "
            f"digits, '.', '_' and '-', at most {MAX_NAME}. Give one with @on(..., name=...)."
        )
    return chosen


def _check_function(function: Callable[..., Any], name: str) -> None:
    try:
        inspect.signature(function).bind(object())
    except TypeError as error:
        raise HandlerDefinitionError(
            f"Handler {name!r} must take one argument, the event: {error}."
        ) from error


def _check_options(broker: RedisStreamsBroker, options: dict[str, Any], name: str) -> None:
    unknown = sorted(set(options) - broker.actor_options)
    if unknown:
        raise HandlerDefinitionError(
            f"Handler {name!r}: unknown options {', '.join(unknown)}. Known: "
            f"{', '.join(sorted(broker.actor_options))}. Is a middleware missing?"
        )


def _need_idempotency(broker: RedisStreamsBroker) -> None:
    if not any(isinstance(one, Idempotency) for one in broker.middleware):
        broker.add_middleware(Idempotency())


def _need_event_loop(broker: RedisStreamsBroker) -> None:
    if not any(isinstance(one, AsyncIO) for one in broker.middleware):
        broker.add_middleware(EventLoop())
