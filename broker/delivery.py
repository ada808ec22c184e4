"""One delivery: Dramatiq's message proxy, and what this process knows of it.

Dramatiq reads about twenty fields of a proxy a message. Its own proxy sends each read through
`__getattr__`; here they are plain attributes, and the `Message` behind them is built only when
somebody asks for it (a retry, a callback, a result).

A delivery goes through: claimed (intake) -> handed out (consumer) -> started -> done (broker's
hooks) -> settled (`ack` or `nack`, once). Between the handler's end and the ack, what middleware
enqueues is collected in `messages`, and committed with the settle.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from dramatiq import Message, MessageProxy

from ..events import Event
from .reservations import Reservation
from .settlements import Action, Emit, Enqueue, StateWrite, Times
from .sources import Source

if TYPE_CHECKING:
    from .claimed import Claimed
    from .logs import Logs

__all__ = ["Delivery", "RunningState"]


class RunningState(Protocol):
    """A handler's state as one run knows it."""

    def writes(self) -> Sequence[StateWrite]:
        """What is committed with the end of the run. From now on the next run may know it."""
        ...


class Delivery(MessageProxy):
    """A message, or an event for one subscription, in the hands of this process.

    Not thread-safe: one worker thread at a time has it.
    """

    # What most deliveries never change stands in the class: that costs nothing for each of them.

    failed = False
    _exception: BaseException | None = None
    _built: Message[Any] | None = None
    event: Event | None = None
    published_ns = 0
    started_ns = 0
    done_ns = 0
    #: Number of this run, from 1. Kept, since Retries counts the next one before this one is
    #: settled.
    attempt = 1
    settled = False
    #: Set by Retries: milliseconds until the retry.
    retry_delay_ms: int | None = None
    #: A message's retry, once it is written.
    retry_message: Enqueue | None = None
    #: Set where the handler was not to run; see `turning_away`.
    turned_away = False
    #: For how long it is to wait in the buffer then, seconds.
    hold_s = 0.0
    #: How it ends, where that was decided by something else than the handler's outcome.
    ending: Action | None = None
    #: When it is not worth handling any more, ns, wall clock; 0: never.
    expires_ns = 0
    #: Its business key, once it is reserved for this delivery, or may be.
    reserved: Reservation | None = None
    #: When it was reserved ahead, s, monotonic clock; inf: it was not ahead.
    reserved_s = math.inf
    #: Whether nobody knows if what its business key stands for was done.
    uncertain = False
    #: What runs in place of the handler; is given a function that runs the handler.
    instead: Callable[[Callable[[], Any]], Any] | None = None
    #: Its handler's state, if it has one.
    state: RunningState | None = None
    #: What the audit calls its end, once it is settled.
    outcome = ""
    #: Set where middleware could not enqueue what must follow.
    failure: BaseException | None = None
    #: Of the broker that delivers; set when the handler starts.
    logs: Logs

    def __init__(
        self,
        source: Source,
        consumer: str,
        entry_id: bytes,
        data: bytes,
        has_options: bool,
        appended_ns: int,
        claimed_ns: int,
        claimed: Claimed | None = None,
    ) -> None:
        # Not super().__init__: it would ask for the Message, which is built on demand.
        self.source = source
        self.consumer = consumer
        self.entry_id = entry_id
        #: The entry's payload as it stands in the stream.
        self.data = data
        #: As it came out of the buffer.
        self.claimed = claimed
        #: Whether retry state is stored for it.
        self.has_options = has_options
        self.appended_ns = appended_ns
        self.claimed_ns = claimed_ns
        self.emits: list[Emit] = []
        self.messages: list[Enqueue] = []

    def __getattr__(self, name: str) -> Any:
        # An event's id as text: of one in a batch, nobody asks for it.
        if name == "message_id" and self.event is not None:
            self.message_id = str(self.event.id)
            return self.message_id
        return super().__getattr__(name)

    @property
    def _message(self) -> Message[Any]:  # type: ignore[override]  # stock: a plain attribute
        if self._built is None:
            # JSON-safe arguments: callbacks send `asdict()` on.
            args = self.args if self.event is None else (self.data.decode("utf-8", "replace"),)
            self._built = Message(
                queue_name=self.queue_name,
                actor_name=self.actor_name,
                args=args,
                kwargs=self.kwargs,
                options=self.options,
                message_id=self.message_id,
                message_timestamp=self.message_timestamp,
            )
        return self._built

    @property
    def event_id(self) -> bytes:
        """16 bytes of the event's id; empty for a message."""
        return b"" if self.event is None else self.event.id.bytes

    def causing(self, event: Event, cause: Event | None) -> Delivery:
        """The delivery that an emitted event follows from: this one, whatever `cause` is."""
        return self

    def start(self, logs: Logs) -> None:
        """The handler is about to run; what it emits goes to `logs`."""
        self.logs = logs
        self.started_ns = time.time_ns()
        self.emits.clear()

    def done(self) -> None:
        """The handler has ended."""
        self.done_ns = time.time_ns()

    def times(self) -> Times:
        """When things happened, for the audit."""
        return Times(
            self.published_ns, self.appended_ns, self.claimed_ns, self.started_ns, self.done_ns
        )

    def __hash__(self) -> int:
        return id(self)
