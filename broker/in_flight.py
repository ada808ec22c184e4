"""What this process holds: entries that were claimed and are not settled.

A reply that is lost on the way (of a fetch, or of a blocking read) leaves entries pending with this
process's name that it knows nothing of. Comparing the server's list with this one finds them.

An entry that may have killed its worker must run with nothing beside it, so that no neighbour is
counted guilty with it: one intake of the process may ask the others to hold back until nothing is
held, and while its one entry runs.

`_changed` guards everything.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

from .sources import Source

__all__ = ["Held", "InFlight"]

#: Stream, group, consumer name under which it was claimed, entry id.
Held = tuple[str, str, str, bytes]


class InFlight:
    """Entries in the hands of this process. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        #: How often each is held: one that was parked may be claimed again before its first
        #: delivery is taken out.
        self._held: dict[Held, int] = {}
        #: What looked lost at the last comparison.
        self._suspected: dict[tuple[str, str, str], set[bytes]] = {}
        self._alone: object | None = None

    def __len__(self) -> int:
        return len(self._held)

    def add(self, held: Collection[Held]) -> None:
        """The entries were claimed."""
        with self._changed:
            count = self._held
            for one in held:
                count[one] = count.get(one, 0) + 1

    def remove(self, held: Collection[Held]) -> None:
        """The entries were settled, parked or handed back."""
        with self._changed:
            count = self._held
            for one in held:
                left = count.get(one, 0) - 1
                if left > 0:
                    count[one] = left
                else:
                    count.pop(one, None)
            if self._alone is not None and not self._held:
                self._changed.notify_all()

    def held_of(self, source: Source, consumer: str) -> set[bytes]:
        """Which entries of `source` are held under the name `consumer`."""
        at = (source.keys.entries, source.group, consumer)
        with self._changed:
            return {one[3] for one in self._held if one[:3] == at}

    def lost(
        self, source: Source, consumer: str, pending: Collection[bytes]
    ) -> tuple[list[bytes], bool]:
        """Which of the entries that the server calls pending are not held, twice in a row; and
        whether there are others that were not held this time.

        Twice, because an entry may be settled between the server's answer and this look. Only the
        thread that reads the source may ask: no fetch may be under way.
        """
        with self._changed:
            at = (source.keys.entries, source.group, consumer)
            missing = {one for one in pending if (*at, one) not in self._held}
        lost = missing & self._suspected.get(at, set())
        self._suspected[at] = missing - lost
        return sorted(lost), bool(missing - lost)

    # -- alone ---------------------------------------------------------------------------------

    def wait_for_turn(self) -> None:
        """Waits while another intake of this process wants to be alone."""
        with self._changed:
            self._changed.wait_for(lambda: self._alone is None)

    def someone_is_alone(self) -> bool:
        """Whether an intake is, or wants to be, alone."""
        return self._alone is not None

    def begin_alone(self, who: object, timeout_s: float) -> bool:
        """Asks all other intakes to hold back; True once nothing is held.

        False if another one has asked before, or something is still held after `timeout_s`; then
        nobody holds back.
        """
        with self._changed:
            if self._alone is not None:
                return False
            self._alone = who
            if self._changed.wait_for(lambda: not self._held, timeout_s):
                return True
            self._end()
            return False

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Waits until nothing is held; False if something still is after `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._held, timeout_s)

    def end_alone(self) -> None:
        """Lets the other intakes read again."""
        with self._changed:
            self._end()

    def _end(self) -> None:
        self._alone = None
        self._changed.notify_all()
