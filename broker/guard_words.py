"""What a person on call reads in the log when something is stopped."""

from __future__ import annotations

from .guard_state import BreakerState, Halt
from .wording import counted

__all__ = ["breaker_words", "halt_words"]


def halt_words(halt: Halt) -> str:
    """Says what is halted and how that ends."""
    scope = halt.scope
    words = ["--all"] if scope.kind == "everything" else []
    words += [scope.subscription] if scope.subscription is not None else []
    words += [f"--key '{scope.key}'"] if scope.key is not None else []
    return f"{halt}. Nothing of it runs until: streamatiq resume {' '.join(words)}"


def breaker_words(breaker: BreakerState) -> str:
    """Says in what state a breaker is and what happens next."""
    name = breaker.name
    if breaker.state == "half_open":
        return f"Breaker {name!r} is half-open: one event is tried; if it succeeds, all run again."
    failures = f" after {counted(breaker.failures, 'failure')} in a row" if breaker.failures else ""
    until = breaker.until
    ends = f"streamatiq breaker close '{name}'"
    if until is not None:
        at_once = f"streamatiq breaker reset '{name}'"
        ends = f"{until:%H:%M:%S} UTC, when one event is tried (at once: {at_once})"
    return (
        f"Breaker {name!r} is open{failures}, by {breaker.by}: {breaker.reason}. What needs it "
        f"waits, with no attempt burnt, until {ends}"
    )
