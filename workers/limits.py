"""Limits of rates and concurrency, by Dramatiq's rate limiters."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from dramatiq import Actor, Broker
from dramatiq.logging import get_logger
from dramatiq.middleware import Middleware, MiddlewareError
from dramatiq.rate_limits import RateLimiter

from ..broker import Batch, Delivery
from ..broker.turning_away import TurnedAway
from ..errors import HandlerDefinitionError

__all__ = ["Limits", "check_limiter"]

#: Milliseconds until what found its limit taken is tried again, if nobody says.
DELAY_MS = 50


class Limits(Middleware):
    """Runs a handler only while its limiter has room.

    `@on(..., limiter=...)` adds it by itself; plain actors need `broker.add_middleware(Limits())`
    before they are declared. Options of both:

    - `limiter`: A function of the event (of the message's arguments) that returns one of Dramatiq's
      rate limiters, or None: no limit. `broker.rate_limiter_backend()` is a backend for it.
    - `limiter_delay`: Milliseconds until an event that found no room is tried again, 50 by default;
      it is jittered by a half. No attempt is burnt.

    What was taken is given back after the handler, also when it raises or is interrupted. A process
    that is killed gives nothing back: then it ends with the limiter's `ttl` (15 minutes, by
    Dramatiq's default; give one a little above the handler's time limit).

    Parameters:
      rng: Source of jitter.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self.logger = get_logger(__name__, type(self))
        self._rng = rng or random.Random()
        #: What each delivery that runs holds. Adding and removing are atomic.
        self._held: dict[Delivery, AbstractContextManager[bool]] = {}

    @property
    def actor_options(self) -> set[str]:
        """Options of actors."""
        return {"limiter", "limiter_delay"}

    # -- hooks ---------------------------------------------------------------------------------

    def before_declare_actor(self, broker: Broker, actor: Actor[Any, Any]) -> None:
        """Refuses options that make no sense."""
        try:
            check_limiter(actor.actor_name, actor.options)
        except HandlerDefinitionError as error:
            raise _WrongLimiter(str(error)) from None

    def before_delivery(self, broker: Broker, delivery: Delivery) -> None:
        """Turns the delivery away while there is no room for it. A hook of our broker."""
        actor = broker.actors.get(delivery.actor_name)
        choose = None if actor is None else actor.options.get("limiter")
        if actor is None or choose is None:
            return
        limiter = choose(*delivery.args, **delivery.kwargs)
        if limiter is None:
            return
        if not isinstance(limiter, RateLimiter):
            raise TypeError(
                f"limiter of {delivery.actor_name!r} returned {limiter!r:.80}, which is no "
                "dramatiq.rate_limits.RateLimiter"
            )
        held = limiter.acquire(raise_on_failure=False)
        if held.__enter__():
            self._held[delivery] = held
            return
        delay_ms = actor.options.get("limiter_delay", DELAY_MS)
        jittered_s = max(1, round(delay_ms * (0.5 + self._rng.random()))) / 1000
        raise TurnedAway(None, f"limiter {limiter.key!r} has no room", hold_s=jittered_s)

    def after_process_message(
        self, broker: Broker, message: Any, *, result: Any = None, exception: Any = None
    ) -> None:
        """Gives back what was taken."""
        self._give_back(message)

    def after_skip_message(self, broker: Broker, message: Any) -> None:
        """Gives back what was taken."""
        self._give_back(message)

    def after_turned_away(self, broker: Broker, message: Any) -> None:
        """Gives back what was taken before another middleware turned the delivery away."""
        self._give_back(message)

    def _give_back(self, message: Any) -> None:
        for run in message.chosen if isinstance(message, Batch) else [message]:
            held = self._held.pop(run, None)
            if held is None:
                continue
            try:
                held.__exit__(None, None, None)
            except Exception:
                self.logger.exception(
                    "%r cannot give back its place; it is free after the limiter's ttl.", run
                )


class _WrongLimiter(HandlerDefinitionError, MiddlewareError):
    """Dramatiq lets errors of this kind through from its hooks."""


def check_limiter(name: str, options: Mapping[str, Any]) -> None:
    """Refuses options of a handler or actor that make no sense.

    Raises:
      HandlerDefinitionError: They do not.
    """
    limiter, delay = options.get("limiter"), options.get("limiter_delay", DELAY_MS)
    if limiter is not None and (isinstance(limiter, RateLimiter) or not callable(limiter)):
        raise HandlerDefinitionError(
            f"Handler {name!r}: limiter is {limiter!r:.80}; use a function of the event that "
            "returns a rate limiter, for example limiter=lambda event: my_limiter."
        )
    if isinstance(delay, bool) or not isinstance(delay, int | float) or not 1 <= delay <= 3_600_000:
        raise HandlerDefinitionError(
            f"Handler {name!r}: limiter_delay is {delay!r:.80}; use milliseconds, 1 to 3,600,000."
        )
