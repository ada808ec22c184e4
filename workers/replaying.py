"""What a handler does with replayed events: it runs, it is skipped, or it runs dry.

Everything in a replay's namespace is replayed. Elsewhere a delivery is, if a replay gave it to this
one subscription (its state says so), or if its event was published by a replay into the live logs,
or follows from one that was (its trace says so).

A dry run is a run whose emitted events go to the logs of a namespace that nobody reads, committed
with the settle as ever. What a handler does besides, `publish` and `.send()` included, it does.
"""

from __future__ import annotations

import threading
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dramatiq import Broker
from dramatiq.middleware import Middleware

from ..broker import Delivery, Logs, RedisStreamsBroker
from ..broker.keys import Keys
from ..broker.replay_names import dry_namespace, replay_of
from ..broker.settlements import SKIPPED
from ..broker.subscriptions import OnReplay
from ..broker.turning_away import TurnedAway
from ..events import Event, OrderEvent

__all__ = ["ReplayRules", "add_replay_rules", "default_on_replay"]


class ReplayRules(Middleware):
    """Holds handlers to their `on_replay`. `@on` adds it, before all other middleware."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _dry
        self._dry: dict[str, Logs] = {}

    def before_delivery(self, broker: RedisStreamsBroker, delivery: Delivery) -> None:
        """A hook of our broker, called in the worker's thread.

        Raises:
          TurnedAway: The handler is skipped; the delivery is settled as such.
        """
        subscription = broker.subscriptions.get(delivery.queue_name)
        if subscription is None or subscription.on_replay == "run":
            return
        replay_id = replay_of(broker.keys.namespace)
        own = replay_id is not None
        replay_id = replay_id or _mark(delivery)
        if replay_id is None:
            return
        if subscription.on_replay == "skip":
            raise TurnedAway(SKIPPED, f"replay {replay_id}: the handler is not for replays")
        namespace = broker.keys.namespace
        dry = f"{namespace}.dry" if own else dry_namespace(namespace, replay_id)
        delivery.logs = self._logs(broker, dry)

    def _logs(self, broker: RedisStreamsBroker, namespace: str) -> Logs:
        with self._lock:
            logs = self._dry.get(namespace)
            if logs is None:
                logs = self._dry[namespace] = broker.logs.elsewhere(Keys(namespace))
            return logs


def _mark(delivery: Delivery) -> str | None:
    """The replay that a delivery belongs to, outside of a replay's namespace."""
    mark = delivery.options.get("replay")
    if mark is None and delivery.event is not None and delivery.event.trace:
        mark = delivery.event.trace.get("replay")
    return mark if isinstance(mark, str) else None


def default_on_replay(
    function: Callable[..., Any], event_classes: Sequence[type[Event]]
) -> OnReplay:
    """`skip` for handlers of orders, and for those whose annotation says that they return some."""
    if any(issubclass(cls, OrderEvent) for cls in event_classes):
        return "skip"
    try:
        annotation = typing.get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001 - names that exist for type checkers only, and whatever else
        annotation = getattr(function, "__annotations__", {}).get("return")
    return "skip" if any(_is_order(one) for one in _named(annotation)) else "run"


def _named(annotation: Any) -> Iterator[Any]:
    """An annotation, and all that it is made of."""
    yield annotation
    for one in typing.get_args(annotation):
        yield from _named(one)


def _is_order(one: Any) -> bool:
    if isinstance(one, str):  # could not be resolved
        return OrderEvent.__name__ in one
    return isinstance(one, type) and issubclass(one, OrderEvent)


def add_replay_rules(broker: Broker) -> None:
    """Adds the rules to a broker that has none yet, before all other middleware."""
    if not any(isinstance(one, ReplayRules) for one in broker.middleware):
        first = type(broker.middleware[0]) if broker.middleware else None
        broker.add_middleware(ReplayRules(), before=first)
