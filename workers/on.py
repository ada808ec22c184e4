"""`@on`: declares a handler of events.

One declaration makes one subscription: a Dramatiq actor, a queue and a consumer group, all of the
same name.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar, cast, overload

import dramatiq
from dramatiq import Actor
from dramatiq.middleware import AsyncIO

from ..broker import RedisStreamsBroker, Start, Subscription
from ..broker.subscriptions import OnReplay
from ..errors import HandlerDefinitionError
from ..events import Event
from .declaring import check_classes, check_function, check_subscription
from .defaults import default_broker
from .event_loop import EventLoop
from .guarding import add_guards
from .handler_state import HandlerState, check_state
from .idempotency import Idempotency
from .idempotency_options import (
    DEFAULT_TTL,
    OnUncertain,
    TimeToLive,
    check_options,
    done_ms_of,
    given_options,
)
from .replaying import add_replay_rules, default_on_replay
from .running import runner
from .states import need_states

__all__ = ["on"]

E = TypeVar("E", bound=Event)
F = TypeVar("F", bound=Event)
G = TypeVar("G", bound=Event)

#: Dramatiq's rule for names of queues.
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9._-]*")
#: Longest name of a subscription, characters: it is part of keys and metric labels.
MAX_NAME = 128


# What a handler takes follows from the classes (one, two, more: their union cannot be said of any
# number), `batch` and `transform`. The shorter ones take all other options as they come.
@overload
def on(
    *event_classes: type[Event],
    batch: int,
    transform: Callable[[Any], G | None],
    **options: Any,
) -> Callable[[Callable[[list[G]], Any]], Actor[[list[G]], None]]: ...
@overload
def on(
    *event_classes: type[Event], transform: Callable[[Any], G | None], **options: Any
) -> Callable[[Callable[[G], Any]], Actor[[G], None]]: ...
@overload
def on(
    first: type[E], /, *, batch: int, **options: Any
) -> Callable[[Callable[[list[E]], Any]], Actor[[list[E]], None]]: ...
@overload
def on(
    *event_classes: type[Event], batch: int, **options: Any
) -> Callable[[Callable[[list[Any]], Any]], Actor[[list[Any]], None]]: ...
@overload
def on(
    first: type[E],
    /,
    *,
    name: str | None = ...,
    priority: int = ...,
    start: Start = ...,
    ordered: bool = ...,
    state: HandlerState | None = ...,
    batch: None = ...,
    conflate: bool = ...,
    valid_for_ms: int | None = ...,
    transform: None = ...,
    on_replay: OnReplay | None = ...,
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
    ordered: bool = ...,
    state: HandlerState | None = ...,
    batch: None = ...,
    conflate: bool = ...,
    valid_for_ms: int | None = ...,
    transform: None = ...,
    on_replay: OnReplay | None = ...,
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
    ordered: bool = ...,
    state: HandlerState | None = ...,
    batch: None = ...,
    conflate: bool = ...,
    valid_for_ms: int | None = ...,
    transform: None = ...,
    on_replay: OnReplay | None = ...,
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
    ordered: bool = False,
    state: HandlerState | None = None,
    batch: int | None = None,
    linger_ms: int = 0,
    conflate: bool = False,
    valid_for_ms: int | None = None,
    transform: Callable[[Any], Event | None] | None = None,
    on_replay: OnReplay | None = None,
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
      priority: Of the actor within a process; lower runs first, and where much waits to be settled
        is settled first.
      start: Where a subscription begins that the server does not know yet: `new` (events published
        after its first worker has booted) or `earliest` (all that is kept).
      ordered: The events of a key run one by one, in the order of the log, through crashes and
        retries: while one waits for its retry, later ones of its key wait, too. A partition is read
        by one process at a time; more partitions, more processes. Needs partitioned types.
      state: The handler's state, which commits with the end of each event; see `checkpointed`.
        Needs `ordered=True`; all events of a partition run one by one then, whatever their keys.
      batch: The handler gets a list of at most so many events; see `BatchFailed`.
      linger_ms: How long an event may wait for others of its batch.
      conflate: Where the handler is slower than the events come, it skips to the newest of each
        key; what is skipped is settled and counted. Needs partitioned types; not for orders and
        fills.
      valid_for_ms: An event whose turn comes later than this after its publishing is not handled
        any more, but settled as expired. An event's own `valid_for_ms` holds, too.
      transform: Called with each event before the handler; gives what the handler gets in its
        place, or None: the event is settled as filtered. It runs in the worker's thread, again with
        each retry; what it raises counts as raised by the handler.
      on_replay: What the handler does with replayed events: `run`; `skip`: they are settled without
        it; `dry_run`: it runs, but what it emits goes to logs that nobody reads. Default: `skip`
        where a class is an order or the annotation of what is returned names one, else `run`.
      broker: Default: the global broker; built from the settings where none is set.
      idempotency_key: The business key of an event; None or '' from it: the event has none. Of the
        events of one key and stream the handler runs for one only; see `Idempotency`.
      idempotency_ttl_s: How long done marks and business keys are kept at least, seconds; None: for
        ever. Default: the settings' `event_bus.idempotency_window`; for ever where the handler
        takes orders and has an `idempotency_key`.
      on_uncertain: What happens where nobody knows whether the handler did its work for a business
        key: `rerun`, `dead_letter`, or a function that asks the outside world; see `Idempotency`.
      options: Dramatiq's own actor options: max_retries, min_backoff, max_backoff, retry_when,
        throws, time_limit (ms; default: the settings' handler_timeout; None: for ever), max_age,
        ...; and runs_when_halted (bool), breaker and breaker_key (see `CircuitBreaker`), limiter
        and limiter_delay (see `Limits`), whose middleware is added where it is missing.

    Raises:
      HandlerDefinitionError: Something about the declaration is wrong.
    """
    check_classes(event_classes)

    def declare(function: Callable[[Any], Any]) -> Actor[[Any], None]:
        chosen = broker or default_broker()
        chosen_name = _checked_name(function, name)
        idempotency = given_options(idempotency_key, idempotency_ttl_s, on_uncertain)
        subscription = Subscription(
            chosen_name,
            event_classes,
            start,
            ordered=ordered,
            in_line=state is not None,
            batch=batch,
            linger_ms=linger_ms,
            conflate=conflate,
            valid_for_ms=valid_for_ms,
            transform=transform,
            runs_when_halted=bool(options.get("runs_when_halted")),
            done_ms=done_ms_of(chosen_name, event_classes, idempotency),
            priority=priority,
            on_replay=default_on_replay(function, event_classes)
            if on_replay is None
            else on_replay,
        )
        check_subscription(subscription)
        if state is not None:
            check_state(subscription, state)
        check_function(function, subscription)
        if idempotency:
            _need_idempotency(chosen)
            options.update(idempotency)
        add_guards(chosen, subscription.name, options)
        _check_options(chosen, options, subscription.name)
        if "time_limit" in chosen.actor_options:
            limit_s = chosen.settings.event_bus.handler_timeout
            default = None if limit_s is None else int(limit_s * 1000)
            limit_ms = options.get("time_limit", default)
            # Dramatiq's None would mean the ten minutes of its own.
            options["time_limit"] = math.inf if limit_ms is None else limit_ms
        run = runner(function, batch=batch is not None, transform=transform)
        if inspect.iscoroutinefunction(run) or inspect.iscoroutinefunction(on_uncertain):
            _need_event_loop(chosen)
        check_options(subscription.name, options, is_event=True)
        add_replay_rules(chosen)
        chosen.declare_subscription(subscription)
        if state is not None:
            need_states(chosen).declare(subscription.name, state)
        declare_actor = dramatiq.actor(
            actor_name=subscription.name,
            queue_name=subscription.name,
            priority=priority,
            broker=chosen,
            **options,
        )
        return cast("Actor[[Any], None]", declare_actor(run))

    return declare


def _checked_name(function: Callable[..., Any], name: str | None) -> str:
    chosen = name or f"{function.__module__}.{function.__qualname__}"
    if not _NAME.fullmatch(chosen) or len(chosen) > MAX_NAME:
        raise HandlerDefinitionError(
            f"{chosen!r} cannot be the name of a subscription: use a letter or _ and then letters, "
            f"digits, '.', '_' and '-', at most {MAX_NAME}. Give one with @on(..., name=...)."
        )
    return chosen


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
