"""What asks: of deliveries, and of subscriptions and queues as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dramatiq.logging import get_logger

from .claimed import Claimed
from .delivery import Delivery
from .guard_state import Subject
from .payloads import decode_message, with_event

if TYPE_CHECKING:
    from .queue_broker import QueueBroker

__all__ = [
    "MAX_BREAKER_NAME",
    "breaker_names",
    "claimed_subject",
    "halted_subject",
    "subject_of",
    "whole_subject",
]

_logger = get_logger(__name__)

#: Longest name of a breaker, characters.
MAX_BREAKER_NAME = 256


def breaker_names(
    options: Mapping[str, Any], actor: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[str, ...]:
    """The breakers of one run of an actor.

    Parameters:
      options: The actor's: `breaker`, `breaker_key`.
      args, kwargs: What it is called with: the event, or a message's arguments.

    Raises:
      TypeError, ValueError: `breaker_key` has returned what is no name.
    """
    key = options.get("breaker_key")
    if callable(key):
        name = key(*args, **kwargs)
        if not isinstance(name, str):
            raise TypeError(f"breaker_key of {actor!r} returned {name!r:.80}, which is no str")
        if len(name) > MAX_BREAKER_NAME:
            raise ValueError(
                f"breaker_key of {actor!r} returned {len(name)} characters ({name[:40]!r}...); a "
                f"breaker's name has {MAX_BREAKER_NAME} at most"
            )
        return (name,) if name else ()
    if key:
        return (key,)
    return (actor,) if options.get("breaker") else ()


def _options(broker: QueueBroker, actor: str) -> Mapping[str, Any]:
    found = broker.actors.get(actor)
    return {} if found is None else found.options


def _runs_when_halted(broker: QueueBroker, name: str, options: Mapping[str, Any]) -> bool:
    subscription = broker.subscriptions.get(name)
    of_subscription = subscription is not None and subscription.runs_when_halted
    return of_subscription or bool(options.get("runs_when_halted"))


def halted_subject(broker: QueueBroker, delivery: Delivery) -> Subject:
    """A delivery, for halts: without its breakers, which cost a call of the user's code."""
    name, actor = delivery.queue_name, delivery.actor_name
    runs = _runs_when_halted(broker, name, _options(broker, actor))
    return Subject(name, actor, _key(delivery), (), runs)


def subject_of(broker: QueueBroker, delivery: Delivery) -> Subject:
    """A delivery.

    Raises:
      Exception: What the handler's `breaker_key` raises; see `breaker_names`.
    """
    actor = delivery.actor_name
    names = breaker_names(_options(broker, actor), actor, delivery.args, delivery.kwargs)
    return halted_subject(broker, delivery)._replace(breakers=names)


def claimed_subject(broker: QueueBroker, claimed: Claimed) -> Subject:
    """An entry that waits in a buffer, as far as can be told without running anything twice.

    What cannot be told (it is no event, no message; its id alone was kept; `breaker_key` raises) is
    left out: it is asked again, and said, right before the handler would run.
    """
    name = claimed.source.group
    actor, key = name, claimed.key or ""
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    if claimed.source.event_class is not None:
        event = claimed.event
        if event is None and claimed.fields:
            event = with_event(claimed).event
        if event is not None:
            key, args = event.key, (event,)
    elif claimed.fields:
        message = claimed.decoded or decode_message(claimed) or {}
        actor = str(message.get("actor_name", name))
        args, kwargs = tuple(message.get("args", ())), message.get("kwargs", {})
    options = _options(broker, actor)
    names: tuple[str, ...] = ()
    if args or kwargs or not callable(options.get("breaker_key")):
        try:
            names = breaker_names(options, actor, args, kwargs)
        except Exception as error:  # noqa: BLE001 - the user's code; see above
            _logger.debug("breaker_key of %r failed: %r", actor, error)
    return Subject(name, actor, key, names, _runs_when_halted(broker, name, options))


def whole_subject(broker: QueueBroker, name: str) -> Subject:
    """A subscription or work queue as a whole: whether it is to be read.

    A queue is read while one of its actors may run. A `breaker_key` that is a function concerns
    single events, and so does any breaker of a queue's actors.
    """
    actors = [actor for actor in broker.actors.values() if actor.queue_name == name]
    if name not in broker.subscriptions:
        runs = any(actor.options.get("runs_when_halted") for actor in actors)
        return Subject(name, name, "", (), runs, whole=True)
    options = _options(broker, name)
    names = () if callable(options.get("breaker_key")) else breaker_names(options, name, (), {})
    runs = _runs_when_halted(broker, name, options)
    return Subject(name, name, "", names, runs, whole=True)


def _key(delivery: Delivery) -> str:
    return "" if delivery.event is None else delivery.event.key
