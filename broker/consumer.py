"""What Dramatiq's consumer thread talks to: decoded deliveries in, outcomes out.

A consumer object may be replaced after an error while deliveries of the old one are still running;
all bookkeeping is therefore in the intake and the committer, which live as long as the process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from dramatiq import Consumer, MessageProxy
from dramatiq.errors import DecodeError
from dramatiq.logging import get_logger
from dramatiq.middleware import SkipMessage

from ..errors import EventDecodeError
from ..events import decode_as
from .buffer import Claimed
from .committer import Committer
from .current import current_delivery
from .dead_letters import dead_letter, undecodable
from .delivery import Delivery
from .intake import Intake
from .payloads import appended_ns, decode_data, payload
from .settlements import (
    CANCELLED,
    DONE,
    HAND_BACK,
    RETRIED,
    Action,
    BusinessKey,
    Enqueue,
    Park,
    Settlement,
)

__all__ = ["UNDECIDED_MS", "StreamConsumer", "drop_cancelled", "hand_back"]

#: Milliseconds until a delivery is run again whose processing raised, with neither a retry nor a
#: failure recorded, or whose follow-up could not be enqueued.
UNDECIDED_MS = 15_000


class StreamConsumer(Consumer):
    """Hands out the deliveries of one queue or subscription, and takes their outcomes.

    `ack` and `nack` may be called from any thread, and more than once.

    Parameters:
      intake: Where entries come from.
      committer: Where outcomes go.
      prefetch: Deliveries that may be handed out and not acked.
      timeout_ms: How long `__next__` waits.
    """

    def __init__(
        self, intake: Intake, committer: Committer, *, prefetch: int, timeout_ms: int
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self._intake = intake
        self._committer = committer
        self._prefetch = prefetch
        self._timeout_s = timeout_ms / 1000

    def __next__(self) -> Delivery | None:
        claimed = self._intake.take(self._prefetch, self._timeout_s)
        if claimed is None:
            return None
        data = payload(claimed)
        delivery = Delivery(
            source=claimed.source,
            consumer=claimed.consumer,
            entry_id=claimed.entry_id,
            data=data,
            appended_ns=appended_ns(claimed),
            has_options=claimed.options is not None,
            claimed_ns=claimed.claimed_ns,
            claimed=claimed,
        )
        try:
            if claimed.source.is_log:
                _fill_event(delivery, claimed)
            else:
                _fill_message(delivery, claimed.decoded)
        except (EventDecodeError, DecodeError) as error:
            self._undecodable(claimed, data, error)
            return None
        return delivery

    def ack(self, message: MessageProxy) -> None:
        """Records how `message` ended and returns at once; see `Committer`.

        Raises:
          BrokerConnectionError: The server does not answer; call again.
        """
        assert isinstance(message, Delivery)
        if message.settled:
            return
        self._settle(message, self._outcome(message))

    def nack(self, message: MessageProxy) -> None:
        """Dead-letters `message`.

        Raises:
          BrokerConnectionError: The server does not answer; call again.
        """
        assert isinstance(message, Delivery)
        if message.settled:
            return
        error = message._exception
        cause = "skipped" if error is None or isinstance(error, SkipMessage) else "failed"
        self._settle(message, dead_letter(message, cause, error))

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Hands back deliveries that were not run."""
        hand_back(self._committer, self._intake, messages)

    def close(self) -> None:
        """Nothing is held here; the broker stops intake and committer."""

    def _settle(self, delivery: Delivery, action: Action) -> None:
        retried = delivery.retry_message
        self._committer.submit(
            Settlement(
                source=delivery.source,
                consumer=delivery.consumer,
                entry_id=delivery.entry_id,
                event_id=delivery.event_id,
                action=action,
                emits=delivery.emits if action is DONE else (),
                messages=[*delivery.messages, retried] if retried else delivery.messages,
                attempt=delivery.attempt,
                has_options=delivery.has_options,
                times=delivery.times(),
                happened_ns=0 if delivery.event is None else delivery.event.ts_event,
                key=_business_key(delivery, action),
            )
        )
        delivery.settled = True
        delivery.outcome = action.outcome
        self._intake.release()
        current_delivery.set(None)

    def _outcome(self, delivery: Delivery) -> Action:
        if delivery.ending is not None:
            return delivery.ending
        try:
            if delivery.retry_delay_ms is not None:
                if delivery.source.is_log:
                    return Park(delivery.retry_delay_ms, _options(delivery))
                delivery.retry_message = _retry(delivery)
                return RETRIED
        except Exception:
            # It stays pending: a retry that cannot be written must not be lost.
            self.logger.exception("The retry of %r cannot be written.", delivery)
            delivery.messages.clear()
            return Park(UNDECIDED_MS, b"")
        if delivery._exception is None and delivery.failure is None:
            return DONE
        # The whole delivery runs again, and what followed it with it.
        delivery.messages.clear()
        self.logger.error(
            "%s raised %r, and no middleware recorded a retry or a failure. It stays pending and "
            "runs again in %d s. Is the Retries middleware missing, or did a hook raise?",
            delivery,
            delivery._exception or delivery.failure,
            UNDECIDED_MS // 1000,
        )
        return Park(UNDECIDED_MS, b"")

    def _undecodable(self, claimed: Claimed, data: bytes, error: Exception) -> None:
        self.logger.error(
            "%s %s cannot be decoded; dead-lettered: %s",
            claimed.source.name,
            claimed.entry_id.decode(),
            error,
        )
        ended = Settlement(
            source=claimed.source,
            consumer=claimed.consumer,
            entry_id=claimed.entry_id,
            event_id=b"",
            action=undecodable(claimed.source, claimed.consumer, claimed.entry_id, data, error),
            has_options=claimed.options is not None,
        )
        self._committer.submit_at_once([ended])
        self._intake.release()


def hand_back(
    committer: Committer, intake: Intake | None, messages: Iterable[MessageProxy | Claimed]
) -> None:
    """Gives entries back that were not run: others take them before unread entries."""
    settlements = []
    for message in messages:
        assert isinstance(message, Delivery | Claimed)
        if isinstance(message, Delivery):
            if message.settled:
                continue
            message.settled = True
            if intake is not None:
                intake.release()
        settlements.append(
            Settlement(message.source, message.consumer, message.entry_id, b"", HAND_BACK)
        )
    committer.submit_at_once(settlements)


def drop_cancelled(committer: Committer, cancelled: Iterable[Claimed]) -> None:
    """Settles messages that were cancelled before anybody ran them."""
    committer.submit_at_once(
        [
            Settlement(
                one.source,
                one.consumer,
                one.entry_id,
                b"",
                CANCELLED,
                has_options=one.options is not None,
            )
            for one in cancelled
        ]
    )


def _fill_event(delivery: Delivery, claimed: Claimed) -> None:
    cls = claimed.source.event_class
    assert cls is not None
    event = delivery.event = decode_as(cls, delivery.data)
    delivery.queue_name = delivery.actor_name = claimed.source.group
    delivery.args = (event,)
    delivery.kwargs = {}
    try:
        delivery.options = json.loads(claimed.options) if claimed.options else {}
        delivery.attempt = delivery.options.get("retries", 0) + 1
    except Exception as error:
        raise EventDecodeError(f"Its retry state cannot be read: {error}") from error
    delivery.message_id = str(event.id)
    delivery.published_ns = event.ts_published or 0
    delivery.message_timestamp = (event.ts_published or event.ts_event) // 1_000_000


def _fill_message(delivery: Delivery, decoded: dict[str, Any] | None) -> None:
    try:
        fields: dict[str, Any] = decoded or decode_data(delivery.data)
        delivery.actor_name = _typed(fields, "actor_name", str)
        delivery.args = tuple(_typed(fields, "args", list, tuple))
        delivery.kwargs = _typed(fields, "kwargs", dict)
        options = _typed(fields, "options", dict)
        delivery.message_id = _typed(fields, "message_id", str)
        delivery.message_timestamp = _typed(fields, "message_timestamp", int)
        retries = options.get("retries", 0)
        delivery.attempt = retries + 1 if isinstance(retries, int) else 1
    except Exception as error:
        raise DecodeError("Not a Dramatiq message.", delivery.data, error) from error
    # A message moved here from elsewhere may name another queue, which would kill the thread that
    # runs it; one with an eta would go to worker memory.
    delivery.queue_name = delivery.source.group
    options.pop("eta", None)
    delivery.options = options
    delivery.published_ns = delivery.appended_ns


def _business_key(delivery: Delivery, action: Action) -> BusinessKey | None:
    if delivery.reserved is None:
        return None
    if delivery.uncertain:
        return BusinessKey(*delivery.reserved, becomes="u")
    return BusinessKey(*delivery.reserved, becomes="d" if action is DONE else "f")


def _options(delivery: Delivery) -> bytes:
    """The retry state, in ASCII: a traceback may hold what has no UTF-8 form."""
    return json.dumps(delivery.options, default=str, separators=(",", ":")).encode()


def _retry(delivery: Delivery) -> Enqueue:
    target = delivery.source.lane_target
    delay_ms = delivery.retry_delay_ms
    assert target is not None
    assert delay_ms is not None
    return Enqueue(
        target,
        delay_ms if delay_ms > 0 else -1,
        target.member(delivery.message_id),
        delivery._message.encode(),
    )


def _typed(fields: dict[str, Any], name: str, *kinds: type) -> Any:
    """A field of a message; what is of another type would fail later, in a worker's thread."""
    value = fields[name]
    if not isinstance(value, kinds):
        raise TypeError(f"{name} is {value!r:.80}, not a {kinds[0].__name__}")
    return value
