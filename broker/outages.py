"""How often a connection was lost and found again, for whoever looks."""

from __future__ import annotations

__all__ = ["Outages"]


class Outages:
    """Counts of one connection. Its thread alone writes; anybody may read.

    An attempt that fails while the connection is down is no further loss.
    """

    def __init__(self) -> None:
        #: Whether it is lost at the moment.
        self.down = False
        self.losses = 0
        self.reconnects = 0

    def lost(self) -> None:
        """The connection was lost, or could not be opened."""
        if not self.down:
            self.down = True
            self.losses += 1

    def back(self) -> None:
        """The server has answered."""
        if self.down:
            self.down = False
            self.reconnects += 1
