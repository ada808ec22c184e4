"""Calls the middleware hooks that a middleware overrides, and no others.

Dramatiq calls every hook of every middleware for every signal, about 28 empty calls a message. Here
the overridden ones are looked up once, and again when the list of middleware has changed. A hook
that is patched onto a middleware object later is not seen; middleware that does not derive from
Dramatiq's `Middleware` is asked for each hook by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dramatiq import Broker
from dramatiq.middleware import Middleware

__all__ = ["Found", "Hooks"]

Hook = Callable[..., Any]
#: Hooks, and what they belong to.
Found = tuple[tuple[Hook, object], ...]


class Hooks:
    """The hooks of a broker's middleware list, by signal. Thread-safe: a lost race looks up twice.

    Parameters:
      broker: Its `middleware` may be changed in place or replaced at any time.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._known: list[Middleware] = []
        self._before: dict[str, Found] = {}
        self._after: dict[str, Found] = {}

    def before(self, signal: str) -> Found:
        """Hooks of `before_{signal}` with their middleware, first added first."""
        if self._known != self._broker.middleware:
            self._forget()
        found = self._before.get(signal)
        if found is None:
            found = self._before[signal] = _find(f"before_{signal}", self._known)
        return found

    def after(self, signal: str) -> Found:
        """Hooks of `after_{signal}` with their middleware, last added first."""
        if self._known != self._broker.middleware:
            self._forget()
        found = self._after.get(signal)
        if found is None:
            found = self._after[signal] = _find(f"after_{signal}", self._known[::-1])
        return found

    def _forget(self) -> None:
        self._before = {}
        self._after = {}
        self._known = list(self._broker.middleware)


def _find(name: str, middleware: list[Middleware]) -> Found:
    stock = getattr(Middleware, name, None)
    found = []
    for one in middleware:
        hook = getattr(one, name, None)
        if hook is not None and getattr(hook, "__func__", hook) is not stock:
            found.append((hook, one))
    return tuple(found)
