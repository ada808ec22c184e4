"""What `@on` does for guards: their options bring their middleware along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dramatiq.middleware import Middleware, TimeLimit

from ..broker import RedisStreamsBroker
from ..errors import HandlerDefinitionError
from .circuit_breaker import CircuitBreaker, check_breaker
from .idempotency import Idempotency
from .limits import Limits, check_limiter

__all__ = ["add_guards"]


def add_guards(broker: RedisStreamsBroker, name: str, options: Mapping[str, Any]) -> None:
    """Checks the options of handler `name`, and adds the middleware that they need.

    Raises:
      HandlerDefinitionError: An option makes no sense.
    """
    runs = options.get("runs_when_halted", False)
    if not isinstance(runs, bool):
        raise HandlerDefinitionError(
            f"Handler {name!r}: runs_when_halted is {runs!r:.80}; use True or False."
        )
    check_limiter(name, options)
    check_breaker(name, options)
    if {"limiter", "limiter_delay"} & set(options):
        _need(broker, Limits)
    if {"breaker", "breaker_key"} & set(options):
        _need(broker, CircuitBreaker)


def _need(broker: RedisStreamsBroker, kind: type[Limits] | type[CircuitBreaker]) -> None:
    if any(isinstance(one, kind) for one in broker.middleware):
        return
    middleware: Middleware = kind()
    # Hooks that follow a run are called in reverse: ours once the time limit can no longer
    # interrupt them. And what is turned away must not have reserved its business key.
    for later in (TimeLimit, Idempotency):
        if any(isinstance(one, later) for one in broker.middleware):
            broker.add_middleware(middleware, before=later)
            return
    broker.add_middleware(middleware)
