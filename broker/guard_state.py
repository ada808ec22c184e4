"""Halts and breakers as the server keeps them, and what asks whether it may run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from pydantic_core import from_json

__all__ = ["EVERYTHING", "BreakerState", "Breaking", "Halt", "Scope", "Subject"]

#: What a breaker does: lets everything run, nothing, or one probe.
Breaking = Literal["closed", "open", "half_open"]


class Subject(NamedTuple):
    """What asks whether it may run."""

    #: The subscription, or the work queue.
    name: str
    #: The subscription's name again, or the plain actor's.
    actor: str
    #: The event's key; empty for messages, and for a subscription or queue as a whole.
    key: str
    #: Breakers that apply; usually none or one.
    breakers: tuple[str, ...]
    runs_when_halted: bool
    #: Whether it is a subscription or queue as a whole, which is to be read: it may be while a
    #: probe may run, and does not take the probe's place.
    whole: bool = False


class Scope(NamedTuple):
    """What a halt concerns: everything, a subscription or queue, a key of all subscriptions, or a
    key of one."""

    subscription: str | None = None
    key: str | None = None

    @classmethod
    def of(cls, subscription: str | None, key: str | None, everything: bool) -> Scope:
        """The scope that the arguments of a call mean.

        Raises:
          ValueError: They mean none, or more than one.
        """
        named = subscription is not None or key is not None
        if everything and named:
            raise ValueError("everything=True excludes a subscription and a key.")
        if not (everything or named):
            raise ValueError(
                "What is meant? Name a subscription (or work queue), a key, both, or say "
                "everything=True."
            )
        if subscription == "" or key == "":
            raise ValueError("A subscription and a key have at least one character.")
        if subscription is not None and " " in subscription:
            raise ValueError(f"{subscription!r} is no name of a subscription or work queue.")
        return cls(subscription, key)

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Reads what `text` writes."""
        kind, _, rest = text.partition(" ")
        if kind == "sub":
            return cls(subscription=rest)
        if kind == "key":
            return cls(key=rest)
        if kind == "both":
            name, _, key = rest.partition(" ")
            return cls(name, key)
        return cls()

    @property
    def text(self) -> str:
        """Its form on the server. Names have no blanks, keys may have some."""
        if self.subscription is not None:
            if self.key is not None:
                return f"both {self.subscription} {self.key}"
            return f"sub {self.subscription}"
        return "all" if self.key is None else f"key {self.key}"

    @property
    def kind(self) -> str:
        """`everything`, `subscription`, `key` or `subscription_key`."""
        if self.subscription is not None:
            return "subscription" if self.key is None else "subscription_key"
        return "everything" if self.key is None else "key"

    def __str__(self) -> str:
        if self.subscription is not None:
            what = f"{self.subscription!r}"
            return what if self.key is None else f"key {self.key!r} of {what}"
        return "everything" if self.key is None else f"key {self.key!r} of every subscription"


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class Halt:
    """Something is halted, until somebody resumes it.

    Parameters:
      scope: What.
      reason: Why.
      by: Who halted it.
      since: Since when, the server's clock, UTC.
    """

    scope: Scope
    reason: str
    by: str
    since: datetime

    @classmethod
    def parse(cls, scope: str, text: bytes) -> Halt:
        """Reads the server's record.

        Raises:
          ValueError: It is none.
        """
        fields = from_json(text)
        return cls(Scope.parse(scope), str(fields["why"]), str(fields["by"]), _utc(fields["since"]))

    def __str__(self) -> str:
        return (
            f"{self.scope} is halted since {self.since:%Y-%m-%d %H:%M:%S} UTC, "
            f"by {self.by}: {self.reason}"
        )


@dataclass(frozen=True, slots=True)
class BreakerState:
    """A breaker that is not plainly closed. Times are the server's, ms; 0 = none.

    Parameters:
      name: Of the breaker: a subscription's, an actor's, or what `breaker_key` says.
      state: closed (with failures), open or half_open.
      failures: In a row.
      since_ms: When it came into this state; if closed, when its first failure was counted.
      last_ms: When a failure was counted last.
      until_ms: If open: when a probe may run; 0: not before somebody closes or resets it.
      reset_ms: How long it stays open, ms.
      reason, by: What opened it, and who: a consumer, or a person.
      probe: The run that is the probe now.
      probe_by: The consumer in which it runs.
      probe_until_ms: When its lease ends.
    """

    name: str
    state: Breaking
    failures: int
    since_ms: int
    last_ms: int
    until_ms: int
    reset_ms: int
    reason: str
    by: str
    probe: str
    probe_by: str
    probe_until_ms: int

    @classmethod
    def parse(cls, name: str, text: bytes) -> BreakerState:
        """Reads the server's record.

        Raises:
          ValueError: It is none.
        """
        fields: Mapping[str, Any] = from_json(text)
        return cls(
            name=name,
            state=fields["state"],
            failures=int(fields["failures"]),
            since_ms=int(fields["since"]),
            last_ms=int(fields["last"]),
            until_ms=int(fields["until_ms"]),
            reset_ms=int(fields["reset_ms"]),
            reason=str(fields["why"]),
            by=str(fields["by"]),
            probe=str(fields["probe"]),
            probe_by=str(fields["probe_by"]),
            probe_until_ms=int(fields["probe_until"]),
        )

    @property
    def since(self) -> datetime:
        """When it came into this state, UTC."""
        return _utc(self.since_ms)

    @property
    def until(self) -> datetime | None:
        """If open: when a probe may run, UTC; None: not by itself."""
        return _utc(self.until_ms) if self.until_ms else None

    def __str__(self) -> str:
        if self.state == "closed":
            return f"breaker {self.name!r} is closed, with {self.failures} failures in a row"
        if self.state == "half_open":
            probe = f"a probe runs in {self.probe_by}" if self.probe else "the next run is a probe"
            return f"breaker {self.name!r} is half-open: {probe}"
        until = (
            "somebody closes or resets it" if self.until is None else f"{self.until:%H:%M:%S} UTC"
        )
        return f"breaker {self.name!r} is open until {until}, by {self.by}: {self.reason}"


def _utc(at_ms: Any) -> datetime:
    return datetime.fromtimestamp(float(at_ms) / 1000, UTC)
