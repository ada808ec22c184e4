"""What a buffer asks of the guards: may this entry run now? See `guards`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .claimed import Claimed
from .guard_state import Subject

__all__ = ["Doors", "Gatekeeper"]


class Doors(Protocol):
    """What is open. Thread-safe. `Guards` is one."""

    @property
    def quiet(self) -> bool:
        """Whether nothing at all is closed."""

    def admit(self, subject: Subject) -> float | None:
        """None: it may run. Otherwise the monotonic time at which to ask again; inf if only a
        change helps."""


class Gatekeeper:
    """The guards as one queue's buffer and reader see them.

    Parameters:
      doors: What is open; default: everything.
      describe: What an entry is for the guards. Raises nothing.
      whole: What the queue as a whole is for them.
    """

    def __init__(
        self,
        doors: Doors | None = None,
        describe: Callable[[Claimed], Subject] | None = None,
        whole: Callable[[], Subject] | None = None,
    ) -> None:
        self._doors = doors
        self._describe = describe
        self._whole = whole

    @property
    def quiet(self) -> bool:
        """Whether nothing at all is closed."""
        return self._doors is None or self._doors.quiet

    def subject(self, claimed: Claimed) -> Subject:
        """What an entry is for the guards."""
        if claimed.subject is not None:
            return claimed.subject
        if self._describe is None:
            name = claimed.source.group
            return Subject(name, name, claimed.key or "", (), False)
        return self._describe(claimed)

    def admit(self, subject: Subject) -> float | None:
        """Whether an entry may run; see `Doors.admit`."""
        return None if self._doors is None else self._doors.admit(subject)

    def closed_until(self) -> float | None:
        """Until when the queue as a whole is not to be read; None: it may be read."""
        if self._doors is None or self._whole is None or self._doors.quiet:
            return None
        return self._doors.admit(self._whole())
