"""What Dramatiq runs in place of a handler: it transforms what comes, and collects what is emitted.

Called by hand, a handler behaves as it is written: nothing is transformed or collected.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar, cast

from ..broker import Batch, Delivery, current_delivery
from ..broker.settlements import FILTERED
from ..errors import HandlerError
from ..events import Event
from .emitting import collect

__all__ = ["runner"]

E = TypeVar("E")

#: What a handler may give back: events to emit.
Emitted = Event | Iterable[Event] | None
Transform = Callable[[Any], Event | None]


def runner(
    function: Callable[[E], Any], *, batch: bool, transform: Transform | None
) -> Callable[[E], Any]:
    """`function` as the actor's function.

    Parameters:
      batch: It takes a list of events.
      transform: Applied to each event first; None where there is nothing to do.
    """
    prepare = _preparing(transform, batch=batch)
    if inspect.isasyncgenfunction(function):
        generate = cast("Callable[[Any], AsyncIterator[Event]]", function)

        @functools.wraps(function)
        async def run_async_generator(what: E) -> Any:
            delivery = _delivery_of(what)
            if delivery is None:
                return [emitted async for emitted in generate(what)]
            given = prepare(delivery, what)
            if given is not None:
                collect(delivery, [emitted async for emitted in generate(given)])
            return None

        return run_async_generator

    if inspect.iscoroutinefunction(function):
        coroutine = cast("Callable[[Any], Awaitable[Emitted]]", function)

        @functools.wraps(function)
        async def run_async(what: E) -> Any:
            delivery = _delivery_of(what)
            if delivery is None:
                return await coroutine(what)
            given = prepare(delivery, what)
            if given is not None:
                collect(delivery, await coroutine(given))
            return None

        return run_async

    @functools.wraps(function)
    def run(what: E) -> Any:
        if transform is None:
            result = function(what)
            if result is None:
                return None
            delivery = _delivery_of(what)
            return result if delivery is None else collect(delivery, result)
        delivery = _delivery_of(what)
        if delivery is None:
            return function(what)
        given = prepare(delivery, what)
        if given is not None:
            collect(delivery, function(given))
        return None

    return run


def _delivery_of(what: Any) -> Delivery | None:
    """The delivery that brought `what`; None where a handler is called by hand."""
    delivery = current_delivery.get()
    if delivery is None:
        return None
    brought = delivery.args[0] if isinstance(delivery, Batch) else delivery.event
    return delivery if brought is what else None


def _preparing(transform: Transform | None, *, batch: bool) -> Callable[[Delivery, Any], Any]:
    """What makes of a delivery's events what the handler gets; None: it is not to be called."""
    if transform is None:
        return lambda delivery, what: what
    if not batch:
        return lambda delivery, what: _transformed(transform, delivery, what)

    def prepare(delivery: Delivery, what: Any) -> list[Event] | None:
        assert isinstance(delivery, Batch)
        found = [_transformed(transform, one, one.event) for one in delivery.chosen]
        return [event for event in found if event is not None] or None

    return prepare


def _transformed(transform: Transform, delivery: Delivery, event: Any) -> Event | None:
    found = transform(event)
    if found is None:
        delivery.ending = FILTERED
    elif not isinstance(found, Event):
        raise HandlerError(
            f"The transform of handler {delivery.actor_name!r} returned {found!r:.80}, which is a "
            f"{type(found).__name__} and not an Event. Return an event, or None to leave it out."
        )
    return found
