"""What the state machine publishes, sends and reads: three logs, three subscriptions, two queues.

Ids, times and keys are made from small numbers, so that an example is the same each time it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from dramatiq import Message

from streamatiq import Event, Laned, Partitioned
from streamatiq.broker.keys import LANES, Keys
from streamatiq.broker.scripts import DelayedKeys
from streamatiq.broker.sources import AuditLevel, Source
from streamatiq.broker.subscriptions import Subscription
from streamatiq.broker.work_queues import WorkQueue

__all__ = ["HOUR_MS", "LANES", "QUEUES", "SUBSCRIPTIONS", "Cause", "Effect", "Layout", "Urgent"]

#: A delay that no example lives to see; a rule makes such entries due.
HOUR_MS = 3_600_000
QUEUES = ("work", "mail")


class Cause(Event, type="machine.cause", log=Partitioned(2)):
    """What is published, in a partitioned log."""


class Urgent(Event, type="machine.urgent", log=Laned()):
    """What is published, in a laned log."""


class Effect(Event, type="machine.effect", log=Partitioned(1)):
    """What handlers emit."""


SUBSCRIPTIONS = (
    Subscription("alpha", (Cause, Urgent), "earliest"),
    Subscription("beta", (Urgent,), "earliest"),
    Subscription("gamma", (Effect,), "earliest"),
)


class Layout:
    """The sources of all groups in one namespace; one object each, as in a process.

    Attributes:
      subscriptions, queues: What there is.
    """

    subscriptions: Sequence[Subscription] = SUBSCRIPTIONS
    queues: Sequence[str] = QUEUES

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.work = {name: WorkQueue(keys, name) for name in self.queues}
        #: Subscription or queue -> its sources, in the order in which they are read.
        self.sources: dict[str, list[Source]] = {
            one.name: one.sources(keys, {}, AuditLevel.COUNTS) for one in self.subscriptions
        }
        self.sources |= {name: work.sources for name, work in self.work.items()}
        self.groups = list(self.sources)
        #: Groups whose sources take turns in being first; those of the others are lanes, or one.
        self.rotating = {one.name for one in self.subscriptions if one.rotates}
        #: Groups whose partitions have owners.
        self.owned = {one.name for one in self.subscriptions if one.is_owned}
        self._by_key = {
            (source.keys.entries, group): source
            for group, sources in self.sources.items()
            for source in sources
        }

    def source(self, entries: str, group: str) -> Source:
        """The source that reads the stream `entries` for `group`."""
        return self._by_key[entries, group]

    def delayed(self, group: str) -> DelayedKeys | None:
        """The keys of a queue's delayed and cancelled messages; None for a subscription."""
        work = self.work.get(group)
        return None if work is None else work.delayed


def cause(number: int, kind: int) -> Event:
    """Event `number`; `kind` chooses its log's partition or lane."""
    if kind < 2:
        return Cause(id=_id(number), ts_event=1, key=("a", "d")[kind])
    return Urgent(id=_id(number), ts_event=1, priority=LANES[kind - 2])


def effect(number: int) -> Effect:
    """An effect; its id is replaced by the derived one."""
    return Effect(id=_id(number), ts_event=1)


def message(queue: str, number: int, lane: int, retries: int = 0) -> Message[object]:
    """Message `number`, on its way for the (1 + `retries`)th time."""
    options: dict[str, object] = {"priority": LANES[lane].value}
    if retries:
        options["retries"] = retries
    return Message(
        queue_name=queue,
        actor_name="act",
        args=(),
        kwargs={},
        options=options,
        message_id=f"m{number}",
        message_timestamp=1,
    )


def _id(number: int) -> UUID:
    return UUID(int=number + 1)
