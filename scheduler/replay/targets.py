"""Where a replay's events go."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import uuid5

from ...broker import Logs, scripts
from ...broker.connections import LinkPool
from ...broker.keys import Keys, LogKeys
from ...broker.replay_scripts import give_events
from ...errors import BacklogFull, InvalidReplay
from ...events import Event
from .items import Replayed
from .ranges import StreamRange

__all__ = ["IsolatedTarget", "LiveTarget", "SubscriptionTarget", "Target", "replayed_event"]

#: Between two looks for room, seconds.
ROOM_LOOK_S = 0.02

#: Waits so many seconds, or less; raises where the replay is to end.
Wait = Callable[[float], None]


class Target(Protocol):
    """Takes a replay's events."""

    def prepare(self, ranges: Sequence[StreamRange]) -> None:
        """Called before the first event of a process; checks, and writes nothing that matters."""

    def deliver(self, items: Sequence[Replayed], epoch: int, wait: Wait) -> None:
        """Takes events, in order; done when it returns. Repeated, it does nothing more.

        Parameters:
          epoch: Grows when the replay is sent elsewhere.
          wait: To wait for room.
        """


class IsolatedTarget:
    """A namespace of the replay's own: the same events, with the same ids, for ever deduped.

    Only `ts_published` is new. Thread-safe.

    Parameters:
      keys: That namespace.
      limit: Events that a subscription there may have to handle; 0: no limit. The replay waits.
    """

    def __init__(
        self,
        keys: Keys,
        links: LinkPool,
        *,
        limit: int,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._keys = keys
        self._links = links
        self._limit = limit
        self._clock_ns = clock_ns
        self._logs = Logs(keys, links, window_ms=0)
        #: By type and part.
        self._streams: dict[tuple[str, str], LogKeys] = {}

    def prepare(self, ranges: Sequence[StreamRange]) -> None:
        """Makes the logs."""
        for cls in dict.fromkeys(one.cls for one in ranges):
            self._logs.check_layout(cls)
        for one in ranges:
            at = (one.cls.event_type, one.part)
            self._streams[at] = self._keys.log(*at)

    def deliver(self, items: Sequence[Replayed], epoch: int, wait: Wait) -> None:
        """As `Target.deliver`."""
        now_ns = self._clock_ns()
        streams: dict[LogKeys, list[tuple[bytes, bytes]]] = {}
        for item in items:
            log = self._streams[item.place[:2]]
            streams.setdefault(log, []).append(item.stamped(now_ns))
        while True:
            calls = [
                # A window of 0 never ends: a replay may be resumed after days.
                scripts.publish(log, 0, pairs, limit=self._limit)
                for log, pairs in streams.items()
            ]
            outcomes = self._links.call(lambda link: link.run_many(calls))  # noqa: B023 - called now
            left = {
                log: [pair for pair, one in zip(pairs, outcome, strict=True) if one.full]
                for (log, pairs), outcome in zip(streams.items(), outcomes, strict=True)
            }
            streams = {log: pairs for log, pairs in left.items() if pairs}
            if not streams:
                return
            wait(ROOM_LOOK_S)


class SubscriptionTarget:
    """One subscription: events are pending again for it alone, at their place in the log.

    Nothing is published, and no other subscription notices. Their done marks go first, so that they
    are handled again; business keys stay, so that an order is not sent twice. Thread-safe.

    Parameters:
      subscription: Its name.
    """

    def __init__(self, keys: Keys, links: LinkPool, subscription: str, replay_id: str) -> None:
        self._keys = keys
        self._links = links
        self._subscription = subscription
        self._replay_id = replay_id
        self._state = json.dumps({"replay": replay_id}).encode()
        #: What became of events in this process, by outcome.
        self.outcomes: Counter[str] = Counter()

    def prepare(self, ranges: Sequence[StreamRange]) -> None:
        """Raises:
        InvalidReplay: The subscription does not exist on one of the logs.
        """
        for one in ranges:
            if one.last == (0, 0):
                continue
            groups = self._links.call(lambda link: link.send("XINFO", "GROUPS", one.key))  # noqa: B023
            names = [dict(zip(group[::2], group[1::2], strict=True))[b"name"] for group in groups]
            if self._subscription.encode() not in names:
                known = ", ".join(sorted(name.decode() for name in names)) or "none"
                raise InvalidReplay(
                    f"No subscription {self._subscription!r} reads the log of "
                    f"{one.cls.event_type!r}; there are: {known}. Name one of them, and only types "
                    "that it handles."
                )

    def deliver(self, items: Sequence[Replayed], epoch: int, wait: Wait) -> None:
        """As `Target.deliver`."""
        streams: dict[tuple[str, str], list[tuple[str, bytes]]] = {}
        for item in items:
            at = (item.place.type, item.place.part)
            streams.setdefault(at, []).append((item.place.entry_id, item.event_id))
        for at, entries in streams.items():
            call = give_events(
                self._keys.log(*at).subscription(self._subscription),
                self._subscription,
                self._replay_id,
                epoch,
                self._state,
                entries,
            )
            self.outcomes.update(self._links.call(lambda link: link.run(call)))  # noqa: B023


class LiveTarget:
    """The live logs: every subscription gets new events, derived from those of the range.

    Their ids are new, for the old ones may still be known there; they follow from the old ones, so
    that an event which is published twice is known within the dedupe window. Thread-safe.
    """

    def __init__(self, logs: Logs, replay_id: str) -> None:
        self._logs = logs
        self._replay_id = replay_id

    def prepare(self, ranges: Sequence[StreamRange]) -> None:
        """Nothing is to be prepared."""

    def deliver(self, items: Sequence[Replayed], epoch: int, wait: Wait) -> None:
        """As `Target.deliver`."""
        left: Sequence[Event] = [
            replayed_event(item.event, self._replay_id, epoch) for item in items
        ]
        while left:
            try:
                self._logs.publish_many(left)
                return
            except BacklogFull as full:
                left = full.left
                wait(ROOM_LOOK_S)


def replayed_event(event: Event, replay_id: str, epoch: int = 0) -> Event:
    """The event that a replay into live logs publishes in place of one of the log.

    It is caused by that one, and its trace says `replay`, which what follows from it inherits.
    """
    derived = event.caused_by(event, event_id=uuid5(event.id, f"replay:{replay_id}:{epoch}"))
    trace = {**(derived.trace or {}), "replay": replay_id}
    return derived.model_copy(update={"trace": trace})
