"""Calls the middleware hooks that a middleware overrides, and no others.

Dramatiq calls every hook of every middleware for every signal, about 28 empty calls a message. Here
the overridden ones are looked up once, and again when a middleware is added. A hook that is patched
onto a middleware object later is not seen; middleware that does not derive from Dramatiq's
`Middleware` is asked for each hook by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dramatiq.middleware import Middleware

__all__ = ["Hooks"]

Hook = Callable[..., Any]


class Hooks:
    """The hooks of a broker's middleware list, by signal. Not thread-safe to change."""

    def __init__(self, middleware: list[Middleware]) -> None:
        self._middleware = middleware
        self._known = 0
        self._before: dict[str, tuple[tuple[Hook, Middleware], ...]] = {}
        self._after: dict[str, tuple[tuple[Hook, Middleware], ...]] = {}

    def before(self, signal: str) -> tuple[tuple[Hook, Middleware], ...]:
        """Hooks of `before_{signal}` with their middleware, first added first."""
        if self._known != len(self._middleware):
            self._forget()
        found = self._before.get(signal)
        if found is None:
            found = self._before[signal] = self._find(f"before_{signal}", self._middleware)
        return found

    def after(self, signal: str) -> tuple[tuple[Hook, Middleware], ...]:
        """Hooks of `after_{signal}` with their middleware, last added first."""
        if self._known != len(self._middleware):
            self._forget()
        found = self._after.get(signal)
        if found is None:
            found = self._after[signal] = self._find(f"after_{signal}", self._middleware[::-1])
        return found

    def _forget(self) -> None:
        self._known = len(self._middleware)
        self._before = {}
        self._after = {}

    @staticmethod
    def _find(name: str, middleware: list[Middleware]) -> tuple[tuple[Hook, Middleware], ...]:
        stock = getattr(Middleware, name, None)
        found = []
        for one in middleware:
            hook = getattr(one, name, None)
            if hook is not None and getattr(hook, "__func__", hook) is not stock:
                found.append((hook, one))
        return tuple(found)
