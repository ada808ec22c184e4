"""What a buffer asks of the guards: may this entry run now?

The guards themselves (halts, breakers) are in `guards`; here is what of an entry they go by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from .claimed import Claimed

__all__ = ["Doors", "Gatekeeper", "OpenDoors", "Subject"]


class Subject(NamedTuple):
    """Who asks whether it may run."""

    #: Subscription, or work queue.
    name: str
    #: Subscription again, or the plain actor.
    actor: str
    #: The event's key; empty for messages, and for a subscription as a whole.
    key: str
    #: Breakers that apply to it.
    breakers: tuple[str, ...]
    runs_when_halted: bool


class Doors(Protocol):
    """What is open. Thread-safe."""

    @property
    def quiet(self) -> bool:
        """Whether nothing at all is closed."""

    def admit(self, subject: Subject) -> float | None:
        """None: it may run. Otherwise the monotonic time at which to ask again; inf if only a
        change helps."""

    def closed_until(self, subject: Subject) -> float | None:
        """As `admit`, for somebody who only wants to know."""


class OpenDoors:
    """Nothing is ever closed."""

    quiet = True

    def admit(self, subject: Subject) -> float | None:
        """It may run."""
        return None

    def closed_until(self, subject: Subject) -> float | None:
        """It may run."""
        return None


class Gatekeeper:
    """The guards as one queue's buffer sees them.

    Parameters:
      name: The queue.
      doors: What is open.
      describe: Who an entry is for the guards. Looks into it; may be slow, raises nothing.
    """

    def __init__(
        self,
        name: str,
        doors: Doors | None = None,
        describe: Callable[[Claimed], Subject] | None = None,
    ) -> None:
        self._doors: Doors = doors or OpenDoors()
        #: The queue as a whole.
        self.whole = Subject(name, name, "", (), False)
        self._describe = describe or (lambda _: self.whole)

    @property
    def quiet(self) -> bool:
        """Whether nothing at all is closed."""
        return self._doors.quiet

    def subject(self, claimed: Claimed) -> Subject:
        """Who an entry is for the guards."""
        return self._describe(claimed)

    def admit(self, subject: Subject) -> float | None:
        """See `Doors.admit`."""
        return self._doors.admit(subject)

    def closed_until(self, whole: Subject) -> float | None:
        """See `Doors.closed_until`."""
        return self._doors.closed_until(whole)
