"""What an actor's declaration says of idempotency, checked when it is declared."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from dramatiq import Actor
from dramatiq.middleware import MiddlewareError

from ..broker import RedisStreamsBroker
from ..errors import HandlerDefinitionError, HandlerError
from ..events import Event, OrderEvent

__all__ = [
    "DEFAULT_TTL",
    "Happened",
    "OnUncertain",
    "Plan",
    "TimeToLive",
    "check_options",
    "done_ms_of",
    "given_options",
    "plan_of",
]

#: Seconds; None: for ever; `default`: the settings' `event_bus.idempotency_window`.
TimeToLive = float | None | Literal["default"]
DEFAULT_TTL: Literal["default"] = "default"

#: What the outside world may answer: it did not happen (False), it did (True), or it did and this
#: is what the handler would have emitted.
Happened = bool | Event | Iterable[Event]

T = TypeVar("T")
OnUncertain = Literal["rerun", "dead_letter"] | Callable[[T], Happened | Awaitable[Happened]]

#: Longest business key, characters: it is kept on the server.
MAX_KEY = 512
#: Longest time to live, seconds: a hundred years.
MAX_TTL_S = 3_155_760_000.0


class _Misdeclared(HandlerDefinitionError, MiddlewareError):
    """Raised in a hook: Dramatiq hands on what middleware means to raise, and nothing else."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How one actor's deliveries are made idempotent.

    Parameters:
      name: The actor's.
      queue: Its queue.
      key: The business key of an event, or of a message's arguments; None or '': it has none.
      window_ms: How long keys are kept at least, ms; 0: for ever.
      on_uncertain: What is done where nobody knows.
    """

    name: str
    queue: str
    key: Callable[..., Any]
    window_ms: int
    on_uncertain: OnUncertain[Any]

    def key_of(self, args: Iterable[Any], kwargs: dict[str, Any]) -> str:
        """The business key of one delivery; empty if it has none.

        Raises:
          HandlerError: `idempotency_key` gave something else than a key.
          Exception: Whatever `idempotency_key` raises.
        """
        found = self.key(*args, **kwargs)
        if found is None:
            return ""
        if not isinstance(found, str) or len(found) > MAX_KEY or not _is_text(found):
            raise HandlerError(
                f"Handler {self.name!r}: idempotency_key returned {found!r:.200}, a "
                f"{type(found).__name__}. Return a str of at most {MAX_KEY} characters, or None "
                "for no key."
            )
        return found

    def stored(self, key: str, *, is_event: bool) -> str:
        """A key as it stands on the server: actors share their queue's."""
        return key if is_event or not key else f"{self.name}:{key}"


def _is_text(found: str) -> bool:
    try:
        found.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def plan_of(
    broker: RedisStreamsBroker, actor: Actor[..., Any], known: Iterable[Plan]
) -> Plan | None:
    """The plan that `actor`'s options ask for; None if they name no key.

    Parameters:
      known: Plans of the other actors.

    Raises:
      HandlerDefinitionError: Something about them is wrong.
    """
    options, name = actor.options, actor.actor_name
    key = options.get("idempotency_key")
    try:
        subscription = broker.subscriptions.get(actor.queue_name)
        window_ms = check_options(name, options, is_event=subscription is not None)
        if key is None:
            return None
        if subscription is not None:
            window_ms = subscription.done_ms
        if window_ms is None:
            window_ms = int(broker.settings.event_bus.idempotency_window * 1000)
        on_uncertain = options.get("on_uncertain", "rerun")
        plan = Plan(name, actor.queue_name, key, window_ms, on_uncertain)
        for other in known:
            if other.queue == plan.queue and other.window_ms != window_ms:
                raise HandlerDefinitionError(
                    f"Actor {name!r}: its business keys are to be kept for {_shown(window_ms)}, "
                    f"those of {other.name!r} in the same queue {plan.queue!r} for "
                    f"{_shown(other.window_ms)}. A queue has one idempotency_ttl_s: give this "
                    "actor a queue of its own."
                )
    except HandlerDefinitionError as error:
        raise _Misdeclared(str(error)) from None
    return plan


def given_options(
    key: Callable[..., Any] | None, ttl: TimeToLive, on_uncertain: OnUncertain[Any]
) -> dict[str, Any]:
    """The options that are not as they are by default."""
    given: dict[str, Any] = {}
    if key is not None:
        given["idempotency_key"] = key
    if ttl != DEFAULT_TTL:
        given["idempotency_ttl_s"] = ttl
    if on_uncertain != "rerun":
        given["on_uncertain"] = on_uncertain
    return given


def done_ms_of(
    name: str, event_classes: Sequence[type[Event]], options: dict[str, Any]
) -> int | None:
    """How long a subscription with these options keeps done marks, as `Subscription` takes it.

    Raises:
      HandlerDefinitionError: `idempotency_ttl_s` is no time.
    """
    if "idempotency_ttl_s" in options:
        return _checked_ttl_ms(name, options["idempotency_ttl_s"])
    takes_orders = any(issubclass(cls, OrderEvent) for cls in event_classes)
    return 0 if takes_orders and "idempotency_key" in options else None


def check_options(name: str, options: dict[str, Any], *, is_event: bool) -> int | None:
    """Checks the options of an actor, or of a handler of events.

    Returns:
      How long keys are kept at least, ms; 0: for ever; None: they do not say.

    Raises:
      HandlerDefinitionError: Something about them is wrong.
    """
    key = options.get("idempotency_key")
    on_uncertain = options.get("on_uncertain", "rerun")
    ttl = options.get("idempotency_ttl_s", DEFAULT_TTL)
    window_ms = _checked_ttl_ms(name, ttl)
    _check(name, key, on_uncertain, ttl, is_event=is_event)
    return window_ms


def _checked_ttl_ms(name: str, ttl_s: Any) -> int | None:
    """`idempotency_ttl_s` in ms; 0 = for ever; None = the default.

    Raises:
      HandlerDefinitionError: It is no time.
    """
    if ttl_s is None:
        return 0
    if isinstance(ttl_s, str) and ttl_s == DEFAULT_TTL:
        return None
    if (
        isinstance(ttl_s, bool)
        or not isinstance(ttl_s, int | float)
        or not math.isfinite(ttl_s)
        or not 0 < ttl_s <= MAX_TTL_S
    ):
        raise HandlerDefinitionError(
            f"Handler {name!r}: idempotency_ttl_s is {ttl_s!r}; give seconds (more than 0), None "
            f"for ever, or {DEFAULT_TTL!r}."
        )
    return max(1, int(ttl_s * 1000))


def _check(name: str, key: Any, on_uncertain: Any, ttl: Any, *, is_event: bool) -> None:
    what = "the event" if is_event else "the actor's arguments"
    if key is not None and not callable(key):
        raise HandlerDefinitionError(
            f"Handler {name!r}: idempotency_key is {key!r}; give a function of {what} that returns "
            "a str, or None for no key."
        )
    if inspect.iscoroutinefunction(key):
        raise HandlerDefinitionError(
            f"Handler {name!r}: idempotency_key is a coroutine function; give a plain one. It must "
            "depend on nothing but its arguments."
        )
    if not callable(on_uncertain) and on_uncertain not in ("rerun", "dead_letter"):
        raise HandlerDefinitionError(
            f"Handler {name!r}: on_uncertain is {on_uncertain!r}; use 'rerun', 'dead_letter', or a "
            f"function of {what} that asks the outside world."
        )
    if inspect.isasyncgenfunction(on_uncertain):
        raise HandlerDefinitionError(
            f"Handler {name!r}: on_uncertain is an async generator function; return the events."
        )
    if is_event:
        for option, function in (("idempotency_key", key), ("on_uncertain", on_uncertain)):
            _check_takes_one(name, option, function)
    if key is None and on_uncertain != "rerun":
        raise HandlerDefinitionError(
            f"Handler {name!r}: on_uncertain is about business keys; give idempotency_key too."
        )
    if key is None and ttl != DEFAULT_TTL and not is_event:
        raise HandlerDefinitionError(
            f"Actor {name!r}: idempotency_ttl_s is about business keys (messages leave no done "
            "marks); give idempotency_key too."
        )


def _check_takes_one(name: str, option: str, function: Any) -> None:
    if not callable(function):
        return
    try:
        inspect.signature(function).bind(object())
    except TypeError as error:
        raise HandlerDefinitionError(
            f"Handler {name!r}: {option} must take one argument, the event: {error}."
        ) from error
    except ValueError:
        return  # a built-in function does not tell


def _shown(window_ms: int) -> str:
    return f"{window_ms / 1000:g} s" if window_ms else "ever"
