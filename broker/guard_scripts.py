"""One typed function a script of breakers and halts, as in `scripts`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from .calls import Call, script
from .guard_state import BreakerState, Halt, Scope
from .keys import GuardKeys

__all__ = [
    "Guarded",
    "Report",
    "failed",
    "forget",
    "halt",
    "passed",
    "probe",
    "read",
    "resume",
    "set_breaker",
]

#: Breakers that may be known at a time, so that a `breaker_key` of too many values fills nothing.
MAX_BREAKERS = 10_000


class Guarded(NamedTuple):
    """All that is stopped, at one moment."""

    #: The server's clock, ms.
    now_ms: int
    #: Number of the last change, and where it stands in the control stream.
    number: int
    last_id: str
    breakers: dict[str, BreakerState]
    halts: dict[str, Halt]


class Report(NamedTuple):
    """What a script says of one breaker."""

    #: The state that it was brought into; see the script.
    to: str
    #: The server's clock, ms.
    now_ms: int
    #: Number of the last change.
    number: int
    #: None: it is closed.
    record: BreakerState | None


def _pairs(flat: Sequence[bytes]) -> list[tuple[str, bytes]]:
    return [(name.decode(), text) for name, text in zip(flat[::2], flat[1::2], strict=True)]


def _guarded(reply: Any) -> Guarded:
    now_ms, number, last_id, breakers, halts = reply
    return Guarded(
        now_ms,
        int(number),
        last_id.decode(),
        {name: BreakerState.parse(name, text) for name, text in _pairs(breakers)},
        {scope: Halt.parse(scope, text) for scope, text in _pairs(halts)},
    )


def read(keys: GuardKeys) -> Call[Guarded]:
    """Reads all that is stopped."""
    return Call(script("guards"), (keys.breakers, keys.halts, keys.control), (), _guarded)


def _call(name: str, keys: GuardKeys, breaker: str, *args: Any) -> Call[Report]:
    def parse(reply: Any) -> Report:
        to, now_ms, number, text = reply
        record = BreakerState.parse(breaker, text) if text else None
        return Report(to.decode(), now_ms, int(number), record)

    three = (keys.breakers, keys.control, keys.audit)
    return Call(script(name), three, (breaker, *args), parse)


def failed(
    keys: GuardKeys, breaker: str, run: str, *, threshold: int, reset_ms: int, why: str, by: str
) -> Call[Report]:
    """Counts a failure of `run`, once; `to` is `open` if that opened the breaker.

    Parameters:
      threshold: Failures in a row that open it.
      reset_ms: How long it stays open then.
    """
    reason = why.encode("utf-8", "replace")
    return _call(
        "breaker_failed", keys, breaker, run, threshold, max(1, reset_ms), reason, by, MAX_BREAKERS
    )


def passed(keys: GuardKeys, breaker: str, run: str, *, by: str) -> Call[Report]:
    """Notes that `run` has succeeded; `to` is `closed` if that closed the breaker."""
    return _call("breaker_passed", keys, breaker, run, by)


def probe(
    keys: GuardKeys, breaker: str, run: str, action: str, *, lease_ms: int, by: str
) -> Call[Report]:
    """Takes, renews or releases the place of the one probe for `run`.

    Parameters:
      action: `take`, `renew` or `release`.
      lease_ms: After so long without a renewal another run may be the probe.
    """
    return _call("breaker_probe", keys, breaker, run, action, lease_ms, by)


def set_breaker(
    keys: GuardKeys, breaker: str, to: str, *, why: str, by: str, reset_ms: int = 0
) -> Call[Report]:
    """Opens, closes or resets a breaker by hand. Harmless to repeat.

    Parameters:
      to: `open`, `close` or `reset`.
      reset_ms: How long it stays open; 0: until somebody says otherwise.
    """
    why_, by_ = why.encode("utf-8", "replace"), by.encode("utf-8", "replace")
    return _call("breaker_set", keys, breaker, to, why_, by_, reset_ms, os.urandom(8).hex())


def forget(keys: GuardKeys, older_ms: int, breakers: Sequence[str]) -> Call[int]:
    """Forgets failures of closed breakers that are `older_ms` old."""
    two = (keys.breakers, keys.control)
    return Call(script("breaker_forget"), two, (older_ms, *breakers), int)


def halt(keys: GuardKeys, scope: Scope, *, why: str, by: str) -> Call[tuple[bool, Halt]]:
    """Halts `scope`; tells whether this call did, and the halt that holds. Harmless to repeat."""
    args = (scope.text, why.encode("utf-8", "replace"), by.encode("utf-8", "replace"))
    return Call(
        script("halt"),
        (keys.halts, keys.control, keys.audit),
        (*args, os.urandom(8).hex()),
        lambda reply: (reply[0] == 1, Halt.parse(scope.text, reply[1])),
    )


def resume(keys: GuardKeys, scope: Scope, *, why: str, by: str) -> Call[Halt | None]:
    """Ends the halt of `scope`; returns it, or None if there was none."""
    return Call(
        script("resume"),
        (keys.halts, keys.control, keys.audit),
        (scope.text, why.encode("utf-8", "replace"), by.encode("utf-8", "replace")),
        lambda reply: None if reply is None else Halt.parse(scope.text, reply),
    )
