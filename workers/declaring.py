"""What is checked when a handler is declared: mistakes are found at import, not by an event."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from ..broker import Subscription
from ..errors import HandlerDefinitionError
from ..events import Event, FillEvent, Laned, OrderEvent

__all__ = ["check_classes", "check_function", "check_subscription"]

#: Most events of a batch: as many are claimed, and settled, together.
MAX_BATCH = 10_000
#: Longest time that an event may wait for others of its batch, ms.
MAX_LINGER_MS = 60_000


def check_classes(event_classes: tuple[Any, ...]) -> None:
    """The classes that `@on` was given.

    Raises:
      HandlerDefinitionError: One is no event class with a log.
    """
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
    twice = [cls for at, cls in enumerate(event_classes) if cls in event_classes[:at]]
    if twice:
        raise HandlerDefinitionError(f"@on names {twice[0].__name__} twice.")


def check_subscription(subscription: Subscription) -> None:
    """The options of a subscription, and whether they fit its event types.

    Raises:
      HandlerDefinitionError: Something does not.
    """
    name = f"Handler {subscription.name!r}"
    if subscription.start not in ("new", "earliest"):
        raise HandlerDefinitionError(
            f"{name}: start is {subscription.start!r}; use 'new' or 'earliest'."
        )
    for option in ("ordered", "conflate", "runs_when_halted"):
        value = getattr(subscription, option)
        if not isinstance(value, bool):
            raise HandlerDefinitionError(f"{name}: {option} is {value!r}; use True or False.")
    _check_number(name, "batch", subscription.batch, 1, MAX_BATCH)
    _check_number(name, "linger_ms", subscription.linger_ms, 0, MAX_LINGER_MS)
    _check_number(name, "valid_for_ms", subscription.valid_for_ms, 1, None)
    if subscription.linger_ms and subscription.batch is None:
        raise HandlerDefinitionError(
            f"{name}: linger_ms={subscription.linger_ms} is for batches; give batch=..., too."
        )
    if subscription.transform is not None and not callable(subscription.transform):
        raise HandlerDefinitionError(
            f"{name}: transform is {subscription.transform!r:.80}, which cannot be called."
        )
    if inspect.iscoroutinefunction(subscription.transform):
        raise HandlerDefinitionError(f"{name}: transform must not be `async`.")
    for cls in subscription.event_classes:
        for option in ("ordered", "conflate"):
            if getattr(subscription, option) and isinstance(cls.log, Laned):
                raise HandlerDefinitionError(
                    f"{name}: {option}=True needs a partitioned log. That of {cls.__name__} has "
                    "lanes, in which the events of one key overtake each other. Declare the class "
                    "with log=Partitioned(n), or leave the option out."
                )
        if subscription.conflate and issubclass(cls, OrderEvent | FillEvent):
            raise HandlerDefinitionError(
                f"{name}: conflate=True would skip events, and {cls.__name__} is an order or a "
                "fill: each of them counts. Leave the option out."
            )


def _check_number(name: str, option: str, value: Any, least: int, most: int | None) -> None:
    if value is None and option != "linger_ms":
        return
    fits = type(value) is int and value >= least and (most is None or value <= most)
    if not fits:
        limits = f"of {least} or more" if most is None else f"from {least} to {most:,}"
        raise HandlerDefinitionError(f"{name}: {option} is {value!r}; use an int {limits}.")


def check_function(function: Callable[..., Any], subscription: Subscription) -> None:
    """Whether a handler can take what it will be given, as far as its signature tells.

    Raises:
      HandlerDefinitionError: It cannot.
    """
    name = f"Handler {subscription.name!r}"
    what = "the event" if subscription.batch is None else "the list of events"
    try:
        signature = inspect.signature(function)
        signature.bind(object())
    except TypeError as error:
        raise HandlerDefinitionError(f"{name} must take one argument, {what}: {error}.") from error
    parameter = next(iter(signature.parameters.values()))
    try:
        annotation = typing.get_type_hints(function).get(parameter.name)
    except Exception:  # noqa: BLE001 - names that exist for type checkers only, and whatever else
        return
    if annotation is None:
        return
    accepted = _accepted(annotation, batch=subscription.batch is not None)
    if accepted is None:
        return
    if subscription.transform is not None and accepted:
        return  # it says what the handler gets
    for cls in subscription.event_classes:
        if not any(issubclass(cls, one) for one in accepted):
            shown = getattr(annotation, "__name__", None) or str(annotation)
            asked = cls.__name__ if subscription.batch is None else f"list[{cls.__name__}]"
            raise HandlerDefinitionError(
                f"{name} is declared for {cls.__name__}, but its argument {parameter.name!r} is "
                f"annotated {shown}. Annotate it with {asked}, or name other classes in @on(...)."
            )


def _accepted(annotation: Any, *, batch: bool) -> list[type] | None:
    """The classes that an annotation admits; None if it does not tell; empty: none of them."""
    origin = typing.get_origin(annotation)
    if batch:
        if annotation is Any or isinstance(annotation, typing.TypeVar):
            return None
        if annotation is list:
            return None
        if not (isinstance(origin, type) and issubclass(list, origin)):
            return []
        return _accepted(typing.get_args(annotation)[0], batch=False)
    if origin in (typing.Union, types.UnionType):
        found: list[type] = []
        for one in typing.get_args(annotation):
            accepted = _accepted(one, batch=False)
            if accepted is None:
                return None
            found += accepted
        return found
    if annotation is Any or annotation is object or isinstance(annotation, typing.TypeVar):
        return None
    return [annotation] if isinstance(annotation, type) else []
