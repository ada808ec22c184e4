"""What goes with events on their way: a trace context, for example.

Middleware that derives from `Carrier` is asked by every publish and emit of the broker that it was
added to (by `add_middleware`, or in the constructor). Without one, a publish pays one comparison.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ..events import Event

if TYPE_CHECKING:
    from .logs import Logs

__all__ = ["Carrier"]


class Carrier(ABC):
    """Called in the threads and tasks that publish, at the same time. Must be quick."""

    @abstractmethod
    def publishing(
        self, logs: Logs, events: Sequence[Event]
    ) -> AbstractContextManager[Sequence[Event]]:
        """Goes around one call that publishes; gives what is published instead.

        Parameters:
          events: What the caller gave, unchecked: something else may be among them, and goes on as
            it is. As many come out, in their order, with their ids.
        """

    @abstractmethod
    def carrying(self, event: Event) -> Event:
        """What a handler emits instead of `event`. Its id does not matter: it is given another."""
