"""Managing halts and breakers: what people do, and what they look at.

Nothing here needs the code of the handlers, or a worker that runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import methodcaller
from typing import NamedTuple

from pydantic_core import from_json

from . import guard_scripts as scripts
from .connections import LinkPool
from .dead_letter_admin import operator_name
from .guard_scripts import Guarded
from .guard_state import BreakerState, Breaking, Halt, Scope
from .guard_subjects import MAX_BREAKER_NAME
from .keys import GuardKeys

__all__ = ["GuardAdmin", "GuardChange", "HaltOutcome"]

#: Records of the audit that are read at a time.
PAGE = 500
#: Longest time that a breaker may stay open, seconds: a hundred years.
LONGEST_S = 100 * 365 * 86_400.0


class HaltOutcome(NamedTuple):
    """What `halt` did."""

    #: The halt that holds now.
    halt: Halt
    #: Whether it began with this call; False: it was halted before, for the reason that `halt` has.
    is_new: bool


@dataclass(frozen=True, slots=True)
class GuardChange:
    """One record of the audit: a halt, or a breaker, changed its state.

    Parameters:
      what: `halt` or `breaker`.
      name: The scope of the halt as text, or the breaker.
      before, after: The states.
      reason: Why.
      by: Who: a person, or the consumer whose run it was.
      at: When, the server's clock, UTC.
    """

    what: str
    name: str
    before: str
    after: str
    reason: str
    by: str
    at: datetime


class GuardAdmin:
    """The halts and breakers of one namespace. Thread-safe.

    Parameters:
      links: Connections; every call is repeated after a lost one, which is harmless.
      keys: Where they are.
      reset_s: How long a breaker stays open that was opened by hand, if nobody says.
    """

    def __init__(self, links: LinkPool, keys: GuardKeys, *, reset_s: float) -> None:
        self._links = links
        self._keys = keys
        self._reset_s = reset_s

    def halt(self, scope: Scope, reason: str, by: str | None) -> HaltOutcome:
        """See `GuardedBroker.halt`."""
        call = scripts.halt(self._keys, scope, why=_stated(reason), by=by or operator_name())
        is_new, halt = self._links.call(lambda link: link.run(call))
        return HaltOutcome(halt, is_new)

    def resume(self, scope: Scope, reason: str, by: str | None) -> Halt | None:
        """See `GuardedBroker.resume`."""
        call = scripts.resume(self._keys, scope, why=reason, by=by or operator_name())
        return self._links.call(lambda link: link.run(call))

    def halts(self) -> list[Halt]:
        """See `GuardedBroker.halts`."""
        return sorted(self._read().halts.values(), key=lambda halt: (halt.since, halt.scope.text))

    def breakers(self) -> list[BreakerState]:
        """See `GuardedBroker.breakers`."""
        return sorted(self._read().breakers.values(), key=lambda breaker: breaker.name)

    def set_breaker(
        self, name: str, to: str, reason: str, by: str | None, reset_s: float | None = None
    ) -> Breaking:
        """See `GuardedBroker.open_breaker`, `close_breaker`, `reset_breaker`."""
        if not 0 < len(name) <= MAX_BREAKER_NAME:
            raise ValueError(
                f"{name[:40]!r} cannot be the name of a breaker: it has 1 to {MAX_BREAKER_NAME} "
                "characters."
            )
        chosen_s = self._reset_s if reset_s is None else reset_s
        if math.isnan(chosen_s) or chosen_s <= 0:
            raise ValueError(f"reset_time_s is {chosen_s!r}; use seconds > 0, or math.inf.")
        reset_ms = 0 if chosen_s > LONGEST_S else max(1, int(chosen_s * 1000))
        call = scripts.set_breaker(
            self._keys,
            name,
            to,
            why=_stated(reason),
            by=by or operator_name(),
            reset_ms=reset_ms,
        )
        before = self._links.call(lambda link: link.run(call)).to
        return "open" if before == "open" else "half_open" if before == "half_open" else "closed"

    def changes(self, limit: int | None) -> Iterator[GuardChange]:
        """See `GuardedBroker.guard_changes`."""
        last, left = "+", math.inf if limit is None else limit
        while left > 0:
            count = int(min(PAGE, left))
            read = methodcaller("send", "XREVRANGE", self._keys.audit, last, "-", "COUNT", count)
            entries = self._links.call(read)
            for _, fields in entries:
                yield _change(fields[1])
            if len(entries) < count:
                return
            left -= count
            last = "(" + entries[-1][0].decode()

    def _read(self) -> Guarded:
        call = scripts.read(self._keys)
        return self._links.call(lambda link: link.run(call))


def _stated(reason: str) -> str:
    if not reason.strip():
        raise ValueError("A reason is required: whoever finds it stopped must know why.")
    return reason.strip()


def _change(text: bytes) -> GuardChange:
    fields = from_json(text)
    return GuardChange(
        what=fields["what"],
        name=fields["name"],
        before=fields["from"],
        after=fields["to"],
        reason=fields["why"],
        by=fields["by"],
        at=datetime.fromtimestamp(fields["at"] / 1000, UTC),
    )
