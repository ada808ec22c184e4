"""What gives handlers their state: middleware that `@on(..., state=...)` adds by itself.

A state is read from the server before the first event that needs it, and remembered from then on.
What is remembered may be wrong: an event could not be committed, or another process had the
partition meanwhile. Then the settle refuses the run (`STATE`), and it is read anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from dramatiq import Broker, Worker
from dramatiq.logging import get_logger
from dramatiq.middleware import Middleware

from ..broker import Delivery, RedisStreamsBroker
from ..broker.settlements import BatchOutcome, Park, Settlement
from ..broker.turning_away import TurnedAway
from ..errors import BrokerConnectionError
from .handler_state import HandlerState, StateRun

__all__ = ["States", "need_states"]

#: Milliseconds until a delivery is tried again whose state could not be read.
UNREACHED_MS = 1_000


class States(Middleware):
    """Gives each delivery of a handler with a state what the last one has left. Thread-safe:
    changes of one item of a dict are atomic, and a partition's events run one by one."""

    def __init__(self) -> None:
        self.logger = get_logger(__name__, type(self))
        #: By subscription. Filled while handlers are declared, which is before they run.
        self._declared: dict[str, HandlerState] = {}
        #: Token and value by state hash and subscription.
        self._known: dict[tuple[str, str], tuple[bytes, bytes | None]] = {}

    def declare(self, subscription: str, state: HandlerState) -> None:
        """`subscription` has `state`."""
        self._declared[subscription] = state

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Remembers nothing of earlier workers: what they read may have been restored since."""
        self._known.clear()

    def before_delivery(self, broker: RedisStreamsBroker, delivery: Delivery) -> None:
        """Reads the state, if it is not known.

        Raises:
          TurnedAway: The server cannot be reached.
        """
        state = self._declared.get(delivery.queue_name)
        if state is None or delivery.event is None:
            return
        key, field = delivery.source.keys.state, f"{delivery.source.group} {state.name}"
        at = (key, delivery.source.group)
        known = self._known.get(at)
        if known is None:
            try:
                raw = broker.logs.links.call(lambda link: link.send("HGET", key, field))
            except BrokerConnectionError as error:
                self.logger.warning("%s: its state cannot be read: %s", field, error)
                raise TurnedAway(Park(UNREACHED_MS, b""), str(error)) from error
            known = (b"", None) if raw is None else (raw[:8], raw[8:])
            self._known[at] = known
        delivery.state = StateRun(state, field, *known, known=self._known, at=at)

    def after_settle(
        self,
        broker: RedisStreamsBroker,
        batch: Sequence[Settlement],
        outcome: BatchOutcome,
        at_ns: int,
    ) -> None:
        """Forgets what may not be committed."""
        for source in (
            *(problem.source for problem in outcome.problems),
            *(source for source, _ in outcome.fenced),
        ):
            self._known.pop((source.keys.state, source.group), None)


def need_states(broker: RedisStreamsBroker) -> States:
    """The middleware of `broker`; added where it is missing."""
    for one in broker.middleware:
        if isinstance(one, States):
            return one
    added = States()
    broker.add_middleware(added)
    return added
