"""Work queues: the streams behind Dramatiq's queues, and adding messages to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from dramatiq import Message

from ..errors import BacklogFull, CommandFailed, InvalidLane
from ..events import Lane
from . import scripts
from .backpressure import Backpressure, RoomWait, unlimited
from .connections import Link, LinkPool
from .keys import LANES, Keys, QueueKeys
from .scripts import Added, DelayedKeys, EnqueueTarget
from .settlements import Enqueue
from .sources import AuditLevel, Source

__all__ = ["WorkQueue"]

#: Messages in one script call: the server is busy for about a millisecond.
MESSAGES_A_CALL = 500
#: How long a cancelled id is remembered after its message was due, ms: longer than the longest
#: pause between two retries, which is a week where nobody asks for another.
CANCELLED_MS = 8 * 86_400_000


class WorkQueue:
    """One work queue. Thread-safe.

    Parameters:
      name: The Dramatiq queue's name; also its consumer group's.
    """

    def __init__(self, keys: Keys, name: str) -> None:
        self.name = name
        self.keys: QueueKeys = keys.queue(name)
        self.delayed = DelayedKeys(
            self.keys.delayed, self.keys.delayed_messages, self.keys.cancelled
        )
        self.targets = {
            lane: EnqueueTarget(
                number,
                self.keys.entries(lane),
                self.keys.delayed,
                self.keys.delayed_messages,
                self.keys.wake,
                self.keys.cancelled,
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

    def enqueue(
        self, links: LinkPool, messages: Sequence[Enqueue], pressure: Backpressure = unlimited
    ) -> None:
        """Adds messages, each once, even if a reply is lost and the call repeated.

        They keep their order within a lane. Not atomic: where there is room for some only, the
        first ones are added. Delayed messages need no room.

        Raises:
          BacklogFull: There is no room; `accepted` tells how many were added before.
          BrokerConnectionError: The server cannot be reached; whether it has stored them is not
            known.
          BrokerError: The server refused; the messages of that call were not stored.
        """
        wait = pressure.begin()
        accepted = 0
        while accepted < len(messages):
            part = messages[accepted : accepted + MESSAGES_A_CALL]
            added = links.call(self._adding(part, pressure.limit))
            if added.accepted < 0:
                raise CommandFailed(
                    f"Work queue {self.name!r}: the server has done a later call of this "
                    "connection; whether these messages are stored is not known."
                )
            accepted += added.accepted
            if added.accepted < len(part) and not wait.pause(added.accepted > 0):
                raise self._full(added.backlog, pressure.limit, accepted, len(messages), wait)

    def _full(
        self, backlog: int, limit: int, accepted: int, asked: int, wait: RoomWait
    ) -> BacklogFull:
        one = asked == 1
        fate = (
            "The message is not stored."
            if one
            else f"{accepted:,} of the {asked:,} messages that this call has for it are stored."
        )
        advice = wait.advice(f"enqueue {'it' if one else 'the others'} later", "senders")
        return BacklogFull(
            f"Work queue {self.name!r} is full: {backlog:,} messages are ready or running, and "
            f"event_bus.max_queue_size is {limit:,}. {fate} {advice}",
            queue=self.name,
            backlog=backlog,
            limit=limit,
            accepted=accepted,
            waited_s=wait.waited_s,
        )

    def _adding(self, messages: Sequence[Enqueue], limit: int) -> Callable[[Link], Added]:
        numbers: dict[str, int] = {}

        def add(link: Link) -> Added:
            # One number for all attempts: the script remembers the last one of each link.
            number = numbers.get(link.slot)
            if number is None:
                number = numbers[link.slot] = link.next_sequence()
            return link.run(
                scripts.enqueue(
                    [target.entries for target in self.targets.values()],
                    self.delayed,
                    self.keys.wake,
                    self.keys.producer(link.slot),
                    number,
                    [(one.target.number, *one[1:]) for one in messages],
                    limit=limit,
                )
            )

        return add

    def cancel(self, links: LinkPool, message_ids: Sequence[str]) -> None:
        """Cancels messages; see `QueueBroker.cancel`."""
        lanes = [target.entries for target in self.targets.values()]
        for first in range(0, len(message_ids), MESSAGES_A_CALL):
            call = scripts.cancel(
                self.keys.cancelled,
                self.keys.delayed,
                lanes,
                CANCELLED_MS,
                message_ids[first : first + MESSAGES_A_CALL],
            )
            links.call(partial(Link.run, call=call))

    def flush(self, links: LinkPool) -> int:
        """Drops queued, pending and delayed messages; returns how many."""
        call = scripts.flush(self.delayed[:2], [source.keys for source in self.sources], self.name)
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
