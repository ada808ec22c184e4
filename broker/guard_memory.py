"""What one process knows of halts and breakers, and what it decides from that.

The state comes from three sides: read as a whole, as changes in the control stream, and in replies
to this process's own reports, which may be ahead of the stream. Each is at least as new as a
numbered change, so an older one never replaces a newer one.

`_lock` guards everything but `quiet`, which is one store and one load.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .guard_scripts import Guarded, Report
from .guard_state import EVERYTHING, BreakerState, Halt, Scope, Subject

__all__ = ["Change", "GuardMemory"]

#: Seconds that the one who may become the probe has until its handler asks for it.
SLOT_S = 5.0
#: Seconds after which is asked again while the state is not known yet.
UNKNOWN_S = 1.0


class Change(NamedTuple):
    """One entry of the control stream."""

    number: int
    #: `b` or `h`.
    kind: str
    #: The breaker, or the scope of the halt.
    name: str
    #: None: it is gone.
    value: BreakerState | Halt | None


@dataclass(slots=True)
class _Slot:
    """Who of this process may become the probe of a breaker."""

    name: str
    key: str
    until_s: float


class GuardMemory:
    """Thread-safe.

    Parameters:
      clock_s: The monotonic clock, seconds.
    """

    def __init__(self, clock_s: Callable[[], float]) -> None:
        #: Whether nothing at all is halted, open or failing, and that is known.
        self.quiet = False
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._known = False
        #: Of the last change that was read from the stream.
        self._number = 0
        #: What the monotonic clock shows when the server's shows 0, seconds.
        self._offset_s = 0.0
        self._halts: dict[str, Halt] = {}
        self._scopes: set[Scope] = set()
        self._breakers: dict[str, BreakerState] = {}
        #: Of breakers that replies told more of than the stream has yet.
        self._ahead: dict[str, int] = {}
        self._slots: dict[str, _Slot] = {}

    # -- what is told --------------------------------------------------------------------------

    def load(self, state: Guarded) -> bool:
        """Takes in everything; returns whether that was new."""
        with self._lock:
            begins_anew = state.number < self._number
            if begins_anew:
                self._ahead.clear()  # the stream was lost, and counts from 1 again
            before = (self._known, self._halts, self._breakers)
            breakers = dict(state.breakers)
            for name, number in list(self._ahead.items()):
                if number > state.number:
                    self._put(breakers, name, self._breakers.get(name))
                else:
                    del self._ahead[name]
            for name in set(self._slots) - set(breakers):
                del self._slots[name]
            self._halts, self._breakers = dict(state.halts), breakers
            self._number, self._known = state.number, True
            self._offset_s = self._clock_s() - state.now_ms / 1000
            self._derive()
            return before != (True, self._halts, self._breakers)

    def follow(self, changes: Sequence[Change]) -> bool:
        """Takes in changes from the stream; returns False where some are missing: load then."""
        with self._lock:
            for change in changes:
                if change.number != self._number + 1:
                    return False
                self._number = change.number
                if isinstance(change.value, Halt):
                    self._halts[change.name] = change.value
                elif change.kind == "h":
                    self._halts.pop(change.name, None)
                elif change.number > self._ahead.get(change.name, 0):
                    self._ahead.pop(change.name, None)
                    self._replace(change.name, change.value)
            self._derive()
            return True

    def told(self, name: str, report: Report) -> None:
        """Takes in what a script replied of one breaker."""
        with self._lock:
            if report.number < max(self._number, self._ahead.get(name, 0)):
                return  # something newer is known of it, perhaps
            if report.number > self._number:
                self._ahead[name] = report.number
            self._offset_s = self._clock_s() - report.now_ms / 1000
            self._replace(name, report.record)
            self._derive()

    def _replace(self, name: str, record: BreakerState | None) -> None:
        before = self._breakers.get(name)
        if record is None or before is None or before.state != record.state:
            self._slots.pop(name, None)
        self._put(self._breakers, name, record)

    @staticmethod
    def _put(breakers: dict[str, BreakerState], name: str, record: BreakerState | None) -> None:
        if record is None:
            breakers.pop(name, None)
        else:
            breakers[name] = record

    def _derive(self) -> None:
        self._scopes = {halt.scope for halt in self._halts.values()}
        self.quiet = self._known and not (self._halts or self._breakers)

    # -- what is decided -----------------------------------------------------------------------

    def admit(self, subject: Subject) -> float | None:
        """See `Guards.admit`."""
        if self.quiet:
            return None
        with self._lock:
            now_s = self._clock_s()
            if not self._known:
                return now_s + UNKNOWN_S
            if self._halt_of(subject) is not None:
                return math.inf
            until_s = max(
                (self._until_s(name, subject, now_s) for name in subject.breakers), default=0.0
            )
            if until_s > now_s:
                return until_s
            if not subject.whole:
                for name in subject.breakers:
                    record = self._breakers.get(name)
                    if record is not None and record.state != "closed":
                        slot = _Slot(subject.name, subject.key, now_s + SLOT_S)
                        self._slots[name] = slot
            return None

    def leave(self, name: str, key: str) -> None:
        """The one of this process that was admitted as a probe has asked for it, or will not."""
        with self._lock:
            for breaker, slot in list(self._slots.items()):
                if slot.name == name and slot.key in ("", key):
                    del self._slots[breaker]

    def _until_s(self, name: str, subject: Subject, now_s: float) -> float:
        """When `subject` may ask again; not after now: it may run."""
        at_s = self._due_s(name)
        slot = self._slots.get(name)
        if at_s > now_s or slot is None or slot.until_s <= now_s:
            return at_s
        # What was asked for a subscription as a whole is passed on to the entry that it brought.
        if slot.name == subject.name and not slot.key and subject.key:
            return at_s
        return slot.until_s

    def _due_s(self, name: str) -> float:
        """When something may run, or ask for the probe."""
        record = self._breakers.get(name)
        if record is None or record.state == "closed":
            return 0.0
        if record.state == "open":
            return self._monotonic_s(record.until_ms) if record.until_ms else math.inf
        return self._monotonic_s(record.probe_until_ms) if record.probe else 0.0

    def _monotonic_s(self, server_ms: int) -> float:
        return server_ms / 1000 + self._offset_s

    def halt_of(self, subject: Subject) -> Halt | None:
        """What halts `subject`, from memory; None: nothing."""
        with self._lock:
            return self._halt_of(subject)

    def _halt_of(self, subject: Subject) -> Halt | None:
        if not self._scopes or subject.runs_when_halted:
            return None
        scopes = [EVERYTHING, Scope(subject.name)]
        if subject.key:
            scopes += [Scope(key=subject.key), Scope(subject.name, subject.key)]
        for scope in scopes:
            if scope in self._scopes:
                return self._halts[scope.text]
        return None

    def state_of(self, name: str) -> tuple[BreakerState | None, bool]:
        """What is known of a breaker, and whether the server may be asked for its probe now."""
        with self._lock:
            return self._breakers.get(name), self._due_s(name) <= self._clock_s()

    @property
    def known(self) -> bool:
        """Whether the state was read once."""
        return self._known

    def halts(self) -> list[Halt]:
        """What is halted."""
        with self._lock:
            return list(self._halts.values())

    def breakers(self) -> list[BreakerState]:
        """Breakers that are not plainly closed."""
        with self._lock:
            return list(self._breakers.values())
