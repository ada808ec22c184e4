"""Work queues: the streams behind Dramatiq's queues, and adding messages to them."""

from __future__ import annotations

from collections.abc import Sequence

from dramatiq import Message

from ..errors import InvalidLane
from ..events import Lane
from . import scripts
from .connections import Link, LinkPool
from .keys import LANES, Keys, QueueKeys
from .scripts import EnqueueTarget
from .settlements import Enqueue
from .sources import AuditLevel, Source

__all__ = ["WorkQueue"]


class WorkQueue:
    """One work queue. Thread-safe.

    Parameters:
      name: The Dramatiq queue's name; also its consumer group's.
    """

    def __init__(self, keys: Keys, name: str) -> None:
        self.name = name
        self.keys: QueueKeys = keys.queue(name)
        self.delayed = (self.keys.delayed, self.keys.delayed_messages)
        self.targets = {
            lane: EnqueueTarget(
                number,
                self.keys.entries(lane),
                self.keys.delayed,
                self.keys.delayed_messages,
                self.keys.wake,
            )
            for number, lane in enumerate(LANES, start=1)
        }
        self.sources = [
            Source(
                name=f"queue:{name}:{lane.value}",
                group=name,
                keys=self.keys.lane(lane),
                event_class=None,
                lane_target=self.targets[lane],
                audit=AuditLevel.OFF,
                lane=number,
            )
            for number, lane in enumerate(LANES)
        ]

    def to_enqueue(self, message: Message[object], delay_ms: int | None) -> Enqueue:
        """`message` as the scripts take it.

        Parameters:
          delay_ms: Milliseconds; None and 0 mean now.

        Raises:
          InvalidLane: Its `priority` option is no lane.
        """
        target = self.targets[_lane(message)]
        return Enqueue(
            target,
            delay_ms if delay_ms is not None and delay_ms > 0 else -1,
            target.member(message.message_id),
            message.encode(),
        )

    def enqueue(self, links: LinkPool, messages: Sequence[Enqueue]) -> None:
        """Adds messages of one lane, once, even if a reply is lost and the call repeated.

        Raises:
          BrokerConnectionError: The server cannot be reached; whether it has stored them is not
            known.
          BrokerError: The server refused; nothing was stored.
        """
        sequence: dict[str, int] = {}

        def add(link: Link) -> bool:
            # One number for all attempts: the script remembers the last one of each link.
            number = sequence.setdefault(link.slot, link.sequence + 1)
            link.sequence = number
            return link.run(
                scripts.enqueue(
                    messages[0].target,
                    self.keys.producer(link.slot),
                    number,
                    [(one.delay_ms, one.member, one.message) for one in messages],
                )
            )

        links.call(add)

    def flush(self, links: LinkPool) -> int:
        """Drops queued, pending and delayed messages; returns how many."""
        call = scripts.flush(self.delayed, [source.keys for source in self.sources], self.name)
        return links.call(lambda link: link.run(call))

    def backlog(self, links: LinkPool) -> int:
        """Ready, pending and delayed messages, counted in one moment."""
        call = scripts.backlog(self.keys.delayed, [source.keys for source in self.sources])
        return links.call(lambda link: link.run(call))


def _lane(message: Message[object]) -> Lane:
    """The lane that `send_with_options(priority=...)` asks for."""
    asked = message.options.get("priority", Lane.NORMAL)
    try:
        return Lane(asked)
    except ValueError:
        raise InvalidLane(
            f"Message {message.message_id} of actor {message.actor_name!r}: priority is {asked!r}; "
            f"use one of {', '.join(LANES)}. (An actor's own priority is a number, given to "
            "@dramatiq.actor.)"
        ) from None
