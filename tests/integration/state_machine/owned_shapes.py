"""What the second machine publishes and reads: one partitioned log, and every way of handling it.

orders   ordered, one by one; business keys (asks the outside world); a breaker of its own
bars     ordered, in batches; a breaker for each of two venues; business keys (runs again)
quotes   conflated
notes    in batches, without order; business keys (dead letters); halted by name
mail     a work queue; business keys (runs again)
"""

from __future__ import annotations

from uuid import UUID

from tests.integration.state_machine.shapes import Effect, Layout, message

from streamatiq import Event, Partitioned
from streamatiq.broker.subscriptions import Subscription

__all__ = ["KEYS", "OwnedLayout", "Tick", "key_of", "mail", "tick", "venue_of"]

#: Keys of events, over both partitions.
KEYS = ("a", "b", "c", "d")
#: Every so manieth event is too old when it comes.
EXPIRES_EVERY = 9


class Tick(Event, type="machine.tick", log=Partitioned(2)):
    """What is published."""

    number: int


class OwnedLayout(Layout):
    """See the module."""

    subscriptions = (
        Subscription("orders", (Tick,), "earliest", ordered=True),
        Subscription("bars", (Tick,), "earliest", ordered=True, batch=3),
        Subscription("quotes", (Tick,), "earliest", conflate=True),
        Subscription("notes", (Tick,), "earliest", batch=3),
        Subscription("gamma", (Effect,), "earliest"),
    )
    queues = ("mail",)


def tick(number: int) -> Tick:
    """Event `number`; each time the same."""
    expires = number % EXPIRES_EVERY == EXPIRES_EVERY - 1
    return Tick(
        id=UUID(int=number + 1),
        ts_event=1,
        key=KEYS[number % 4],
        number=number,
        valid_for_ms=1 if expires else None,
    )


def key_of(event: Tick) -> str | None:
    """The business key: of two events in three, shared by some of the same partition key."""
    return None if event.number % 3 == 0 else f"{event.key}{event.number // 12 % 2}"


def venue_of(event: Tick) -> str:
    """The breaker of an event of `bars`."""
    return "venue:x" if event.key in "ab" else "venue:y"


def mail(number: int, lane: int) -> object:
    """A message whose business key is one of three."""
    return message("mail", number, lane).copy(args=(number,))
