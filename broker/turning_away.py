"""Turning a delivery away: what decides, right before a handler would run, that it does not.

Middleware may have a hook `before_delivery(broker, delivery)`. It is called in the worker's thread,
before every `before_process_message`, and raises `TurnedAway` where the handler must not run now:
an open breaker, a halt, a duplicate, an event that has expired. Then no other hook is called for
this delivery, no attempt is burnt, and no result is stored (Dramatiq's SkipMessage would store one,
ack, and log a warning). Only `after_turned_away(broker, delivery)` is called, in which a middleware
gives back what it took in `before_delivery` before another one turned the delivery away. The hook
must return soon; a round trip to the server is as much as it may take.
"""

from __future__ import annotations

from .settlements import Action

__all__ = ["TurnedAway"]


class TurnedAway(Exception):
    """The handler does not run now.

    Parameters:
      ending: How the delivery ends; None: it does not, it goes back into this process's buffer,
        where it waits behind its gate.
      why: For the log.
      hold_s: Of what goes back into the buffer: for how long it waits there, with all that is
        alike, seconds; 0: until its guard lets it pass.
    """

    def __init__(self, ending: Action | None, why: str = "", *, hold_s: float = 0.0) -> None:
        super().__init__(why)
        self.ending = ending
        self.hold_s = hold_s
