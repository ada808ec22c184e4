"""Several deliveries that one run of a handler takes together.

Dramatiq sees one message, whose argument is a list of events. Each event's delivery is a member,
with its own outcome: members are settled one by one. What is not a batch's own affair (a duplicate
among its members, one that has expired) leaves it before the handler runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dramatiq import Message

from ..errors import BatchFailed, HandlerError
from ..events import Event
from .delivery import Delivery
from .settlements import HandBack, Park
from .sources import Source

if TYPE_CHECKING:
    from .logs import Logs

__all__ = ["Batch"]


class Batch(Delivery):
    """Deliveries of one subscription, in the order in which they were taken.

    Not thread-safe: one worker thread at a time has it.

    Parameters:
      members: At least one.
    """

    def __init__(self, members: Sequence[Delivery]) -> None:
        first = members[0]
        super().__init__(
            source=first.source,
            consumer=first.consumer,
            entry_id=first.entry_id,
            data=first.data,
            has_options=first.has_options,
            appended_ns=first.appended_ns,
            claimed_ns=first.claimed_ns,
        )
        self.members = list(members)
        self.queue_name = first.queue_name
        self.actor_name = first.actor_name
        self.kwargs = {}
        self.message_id = first.message_id
        self.message_timestamp = first.message_timestamp
        self.published_ns = first.published_ns
        # Of one that is alone the state of its retries; several are not retried together.
        self.options = first.options if len(members) == 1 else {}
        self.attempt = first.attempt if len(members) == 1 else 1
        #: Whether the handler said which of its members have failed.
        self.members_failed = False
        self._choose(self.members)

    def choose(self) -> None:
        """Leaves out the members that were turned away."""
        chosen = [one for one in self.members if not one.turned_away]
        if len(chosen) != len(self.chosen):
            self._choose(chosen)

    def _choose(self, chosen: list[Delivery]) -> None:
        self.chosen = chosen
        self.args = ([one.event for one in self.chosen],)
        self._known: dict[UUID, Delivery] | None = None

    @property
    def _by_id(self) -> dict[UUID, Delivery]:
        """The chosen ones by their events' ids: asked for by handlers that emit, or say what has
        failed."""
        if self._known is None:
            self._known = {one.event.id: one for one in self.chosen if one.event is not None}
        return self._known

    def part_with_exceptions(self) -> None:
        """Of several, those for which something else is to run in place of the handler leave the
        batch, and come again alone."""
        if len(self.chosen) == 1:
            self.instead = self.chosen[0].instead
            return
        for one in self.chosen:
            if one.instead is not None and one.claimed is not None:
                one.turned_away = True
                one.claimed = one.claimed._replace(cap=1)
                # What is known of its key goes with this delivery; the next one asks for it again.
                one.reserved = None

    def out_of_order(self) -> list[Delivery]:
        """Of an ordered subscription, the chosen ones that are behind one of their key that comes
        again: they must leave the batch, too."""
        found: list[Delivery] = []
        waiting: set[tuple[Source, str]] = set()
        for one in self.members if self.source.ordered else ():
            at = (one.source, "" if one.event is None else one.event.key)
            if one.turned_away and isinstance(one.ending, Park | HandBack | None):
                waiting.add(at)
            elif at in waiting and not one.turned_away:
                found.append(one)
        return found

    @property
    def is_split(self) -> bool:
        """Whether its failure is nobody's yet: it is split until the guilty one is alone."""
        return len(self.chosen) > 1

    @property
    def _message(self) -> Message[Any]:  # type: ignore[override]  # stock: a plain attribute
        if self._built is None:
            data = [one.data.decode("utf-8", "replace") for one in self.chosen]
            self._built = Message(
                queue_name=self.queue_name,
                actor_name=self.actor_name,
                args=(data,),
                kwargs={},
                options=self.options,
                message_id=self.message_id,
                message_timestamp=self.message_timestamp,
            )
        return self._built

    def start(self, logs: Logs) -> None:
        """The handler is about to run."""
        super().start(logs)
        started_ns = self.started_ns
        for one in self.members:
            one.logs = logs
            one.started_ns = started_ns
            if one.emits:
                one.emits.clear()

    def done(self) -> None:
        """The handler has ended."""
        super().done()
        for one in self.chosen:
            one.done_ns = self.done_ns

    def causing(self, event: Event, cause: Event | None) -> Delivery:
        """The member that an emitted event follows from: the `cause` that the handler names, else
        the event that its causation id names, else the last one.

        Raises:
          HandlerError: `cause` is none of the batch.
        """
        wanted = cause.id if cause is not None else event.causation_id
        found = None if wanted is None else self._by_id.get(wanted)
        if found is not None:
            return found
        if cause is not None:
            raise HandlerError(
                f"Handler {self.actor_name!r}: event {cause.id} is none of the batch that it "
                "handles; name one of those as the cause of what is emitted."
            )
        return self.chosen[-1]

    def failures(self, failed: BatchFailed) -> list[tuple[Delivery, BaseException]]:
        """The members that the handler says have failed, and why.

        Raises:
          HandlerError: It names an event that is none of the batch.
        """
        errors: Mapping[UUID, BaseException] = failed.errors
        unknown = [event_id for event_id in errors if event_id not in self._by_id]
        if unknown:
            raise HandlerError(
                f"Handler {self.actor_name!r} raised BatchFailed for {unknown[0]}, which is none "
                "of the events of its batch. The whole batch counts as failed."
            )
        return [(self._by_id[event_id], error) for event_id, error in errors.items()]

    def __hash__(self) -> int:
        return id(self)
