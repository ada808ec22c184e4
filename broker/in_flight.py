"""What this process holds: entries that were claimed and are not settled.

A reply that is lost on the way (of a fetch, or of a blocking read) leaves entries pending with this
process's name that it knows nothing of. Comparing the server's list with this one finds them.

Adding to and taking from a set are single steps of the interpreter, so there is no lock.
"""

from __future__ import annotations

from collections.abc import Collection

from .sources import Source

__all__ = ["InFlight"]


class InFlight:
    """Entries in the hands of this process. Thread-safe."""

    def __init__(self) -> None:
        self._held: set[tuple[Source, bytes]] = set()
        #: What looked lost at the last comparison, by source.
        self._suspected: dict[Source, set[bytes]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def add(self, source: Source, entry_id: bytes) -> None:
        """The entry was claimed."""
        self._held.add((source, entry_id))

    def remove(self, source: Source, entry_id: bytes) -> None:
        """The entry was settled, parked or handed back."""
        self._held.discard((source, entry_id))

    def lost(self, source: Source, pending: Collection[bytes]) -> tuple[list[bytes], bool]:
        """Which of the entries that the server calls pending are not held, twice in a row; and
        whether there are others that were not held this time.

        Twice, because an entry may be settled between the server's answer and this look. Only the
        thread that reads the source may ask: no fetch may be under way.
        """
        missing = {entry_id for entry_id in pending if (source, entry_id) not in self._held}
        lost = missing & self._suspected.get(source, set())
        self._suspected[source] = missing - lost
        return sorted(lost), bool(missing - lost)
