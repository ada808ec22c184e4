"""What Dramatiq's consumer thread talks to: decoded deliveries in, outcomes out.

A consumer object may be replaced after an error while deliveries of the old one are still running;
all bookkeeping is therefore in the intake and the committer, which live as long as the process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from dramatiq import Consumer, MessageProxy
from dramatiq.errors import DecodeError
from dramatiq.logging import get_logger
from dramatiq.middleware import Interrupt, SkipMessage

from ..errors import BrokerError, EventDecodeError, UncertainOutcome
from ..events import decode_as
from .batch import Batch
from .claimed import Claimed
from .committers import Committers
from .connections import LinkPool
from .current import current_delivery
from .dead_letters import dead_letter, undecodable
from .delivery import Delivery
from .intake import Intake
from .payloads import appended_ns, decode_data, event_id, payload
from .reservations import Reservation, letter_name
from .settlements import (
    CONFLATED,
    DONE,
    HAND_BACK,
    RETRIED,
    TRIMMED,
    Action,
    BusinessKey,
    DeadLetter,
    Ended,
    Enqueue,
    HandBack,
    Park,
    Settlement,
)
from .subscriptions import Subscription

__all__ = ["UNDECIDED_MS", "StreamConsumer", "end_unrun", "hand_back", "settled_unrun"]

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
      subscription: How its events are to be run; None for a work queue.
      links: Connections, to read again what was not kept while it waited.
    """

    def __init__(
        self,
        intake: Intake,
        committer: Committers,
        *,
        prefetch: int,
        timeout_ms: int,
        subscription: Subscription | None = None,
        links: LinkPool | None = None,
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self._intake = intake
        self._committer = committer
        self._prefetch = prefetch
        self._timeout_s = timeout_ms / 1000
        self._links = links
        self._batch = subscription.batch if subscription else None
        self._linger_s = subscription.linger_ms / 1000 if subscription else 0.0
        self._valid_for_ms = subscription.valid_for_ms if subscription else None

    def __next__(self) -> Delivery | None:
        if self._batch is None:
            claimed = self._intake.take(self._prefetch, self._timeout_s)
            return None if claimed is None else self._delivery(claimed)
        several = self._intake.take_many(
            self._batch, self._prefetch, self._timeout_s, self._linger_s
        )
        made: list[Delivery] = []
        for at, claimed in enumerate(several):
            try:
                delivery = self._delivery(claimed)
            except BrokerError:
                # `claimed` is put back already.
                self._put_back([one.claimed for one in made if one.claimed] + several[at + 1 :])
                raise
            if delivery is not None:
                made.append(delivery)
        return Batch(made) if made else None

    def _delivery(self, claimed: Claimed) -> Delivery | None:
        """What Dramatiq is handed; None for what is settled without being run."""
        if claimed.ending is not None:
            self._end(claimed, claimed.ending)
            return None
        if not claimed.fields:
            whole = self._load(claimed)
            if whole is None:
                self._end(claimed, TRIMMED)
                return None
            claimed = whole
        data = payload(claimed)
        delivery = Delivery(
            claimed.source,
            claimed.consumer,
            claimed.entry_id,
            data,
            claimed.options is not None,
            appended_ns(claimed),
            claimed.claimed_ns,
            claimed,
        )
        if claimed.reserved is not None:
            delivery.reserved, delivery.reserved_s = claimed.reserved, claimed.reserved_s
        try:
            if claimed.source.is_log:
                _fill_event(delivery, claimed, self._valid_for_ms)
            else:
                _fill_message(delivery, claimed.decoded)
        except (EventDecodeError, DecodeError) as error:
            self._undecodable(claimed, data, error)
            return None
        return delivery

    def _load(self, claimed: Claimed) -> Claimed | None:
        """Reads again what was not kept while it waited; None if the log does not have it.

        Raises:
          BrokerError: The server cannot be reached or refused; the entry is back in the buffer.
        """
        assert self._links is not None
        key, entry_id = claimed.source.keys.entries, claimed.entry_id
        try:
            found = self._links.call(lambda link: link.send("XRANGE", key, entry_id, entry_id))
        except BrokerError:
            self._put_back([claimed])
            raise
        return claimed._replace(fields=found[0][1]) if found else None

    def _put_back(self, claimed: Sequence[Claimed], hold_s: float = 0.0) -> None:
        for one in self._intake.put_back(claimed, hold_s):
            self._committer.submit_at_once([settled_unrun(one, CONFLATED)])

    def _end(self, claimed: Claimed, action: Action) -> None:
        self._committer.submit_at_once([settled_unrun(claimed, action)])
        self._intake.ended((claimed, False))

    def ack(self, message: MessageProxy) -> None:
        """Records how `message` ended and returns at once; see `Committer`.

        Raises:
          BrokerConnectionError: The server does not answer; call again.
        """
        assert isinstance(message, Delivery)
        if isinstance(message, Batch):
            self._settle_batch(message)
        elif not message.settled:
            self._settle(message, self._outcome(message))

    def nack(self, message: MessageProxy) -> None:
        """Dead-letters `message`.

        Raises:
          BrokerConnectionError: The server does not answer; call again.
        """
        assert isinstance(message, Delivery)
        if isinstance(message, Batch):
            self._settle_batch(message)
        elif not message.settled:
            away = message.turned_away
            self._settle(message, self._outcome(message) if away else _given_up(message))

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Hands back deliveries that were not run."""
        hand_back(self._committer, self._intake, messages)

    def close(self) -> None:
        """Nothing is held here; the broker stops intake and committer."""

    def _settle_batch(self, batch: Batch) -> None:
        if batch.settled:
            return
        whole = batch.chosen
        if batch._exception is not None and batch.is_split and not batch.members_failed:
            # Nobody's fault yet: again, in halves.
            cap = max(1, (len(whole) + 1) // 2)
            halves = [one for one in whole if not one.settled]
            self.logger.info(
                "%s: a batch of %d failed; it is run again in parts of %d.",
                batch.queue_name,
                len(whole),
                cap,
            )
            for one in halves:
                one.settled = True
            # Interrupted: nobody knows what was done for a business key, so it is asked again.
            keep = not isinstance(batch._exception, Interrupt | UncertainOutcome)
            back = [_again(one, cap=cap, keep=keep) for one in halves]
            self._put_back([one for one in back if one is not None])
        elif len(whole) == 1 and not batch.members_failed:
            only = whole[0]
            only._exception, only.failure = batch._exception, batch.failure
            only.failed, only.retry_delay_ms = batch.failed, batch.retry_delay_ms
        if batch.failure is not None:
            for one in whole:
                one.failure = batch.failure
        elif batch.messages:
            # What followed the batch is committed with an event that is done.
            last = next((one for one in reversed(whole) if one._exception is None), None)
            if last is not None:
                last.messages += batch.messages
            batch.messages = []  # `ack` may be called again
        left = [one for one in batch.members if not one.settled]
        ends: list[tuple[Delivery, Action]] = []
        for one in left:
            failed = one.failed or (batch.failed and batch._exception is None)
            failed = failed and not one.turned_away
            action = _given_up(one) if failed else self._outcome(one)
            if action is None:
                self._settle(one, None)
            else:
                ends.append((one, action))
        if ends:
            self._committer.submit(*(_settlement(one, action) for one, action in ends))
        for one, action in ends:
            one.settled = True
            one.outcome = action.outcome
        self._intake.ended(*((one.claimed, _returns(action)) for one, action in ends))
        batch.settled = True
        outcomes = {one.outcome for one in batch.chosen if one.outcome}
        batch.outcome = outcomes.pop() if len(outcomes) == 1 else "mixed"
        current_delivery.set(None)

    def _settle(self, delivery: Delivery, action: Action | None) -> None:
        if action is None:
            delivery.settled = True
            again = _again(delivery)
            if again is not None:
                self._put_back([again], delivery.hold_s)
            current_delivery.set(None)
            return
        self._committer.submit(_settlement(delivery, action))
        delivery.settled = True
        delivery.outcome = action.outcome
        self._intake.ended((delivery.claimed, _returns(action)))
        current_delivery.set(None)

    def _outcome(self, delivery: Delivery) -> Action | None:
        """How it ends; None: it goes back into the buffer."""
        if delivery.turned_away or delivery.ending is not None:
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
        action = undecodable(claimed.source, claimed.consumer, claimed.entry_id, data, error)
        self._end(claimed, action)


def _settlement(delivery: Delivery, action: Action) -> Settlement:
    retried, event = delivery.retry_message, delivery.event
    return Settlement(
        delivery.source,
        delivery.consumer,
        delivery.entry_id,
        b"" if event is None else event.id.bytes,
        action,
        delivery.emits if action is DONE else (),
        [*delivery.messages, retried] if retried else delivery.messages,
        delivery.attempt,
        delivery.has_options,
        delivery.times(),
        0 if event is None else event.ts_event,
        None if delivery.reserved is None else _business_key(delivery, delivery.reserved, action),
        delivery.state.writes() if delivery.state and action is DONE else (),
    )


def _returns(action: Action) -> bool:
    """Whether an entry comes again, here or elsewhere."""
    return action is not DONE and isinstance(action, Park | HandBack)


def _again(delivery: Delivery, *, cap: int | None = None, keep: bool = True) -> Claimed | None:
    """What goes back into the buffer of a delivery that was not settled.

    Parameters:
      cap: Most entries of its next batch.
      keep: Its business key, if it has reserved one, stays its own: it was not run, or has failed.
    """
    if delivery.claimed is None:
        return None
    cap = delivery.claimed.cap if cap is None else cap
    return delivery.claimed._replace(cap=cap, reserved=delivery.reserved if keep else None)


def _freed(reserved: Reservation | None) -> BusinessKey | None:
    """A business key that was reserved for what was not run."""
    return None if reserved is None else BusinessKey(*reserved, name=b"-", becomes="f")


def _given_up(delivery: Delivery) -> DeadLetter:
    error = delivery._exception
    cause = "skipped" if error is None or isinstance(error, SkipMessage) else "failed"
    return dead_letter(delivery, cause, error)


def hand_back(
    committer: Committers, intake: Intake | None, messages: Iterable[MessageProxy | Claimed]
) -> None:
    """Gives entries back that were not run: others take them before unread entries."""
    settlements = []
    for message in messages:
        assert isinstance(message, Delivery | Claimed)
        members = message.members if isinstance(message, Batch) else [message]
        for one in members:
            if isinstance(one, Delivery):
                if one.settled:
                    continue
                one.settled = True
                if intake is not None:
                    intake.ended((one.claimed, True))
            settlements.append(
                Settlement(
                    one.source, one.consumer, one.entry_id, b"", HAND_BACK, key=_freed(one.reserved)
                )
            )
    committer.submit_at_once(settlements)


def end_unrun(committer: Committers, claimed: Iterable[Claimed], action: Action) -> None:
    """Settles entries that nobody runs: cancelled, replaced by newer ones, known."""
    committer.submit_at_once([settled_unrun(one, action) for one in claimed])


def settled_unrun(claimed: Claimed, action: Action) -> Settlement:
    """The end of an entry that nobody has run."""
    event = claimed.event
    known_id = b""
    if claimed.source.is_log and isinstance(action, Ended):
        known_id = event_id(claimed) if event is None else event.id.bytes
    return Settlement(
        claimed.source,
        claimed.consumer,
        claimed.entry_id,
        known_id,
        action,
        has_options=claimed.options is not None,
        happened_ns=0 if event is None else event.ts_event,
        key=_freed(claimed.reserved),
    )


def _fill_event(delivery: Delivery, claimed: Claimed, valid_for_ms: int | None) -> None:
    cls = claimed.source.event_class
    assert cls is not None
    event = delivery.event = claimed.event or decode_as(cls, delivery.data)
    delivery.queue_name = delivery.actor_name = claimed.source.group
    delivery.args = (event,)
    delivery.kwargs = {}
    delivery.options = {}
    if claimed.options:
        try:
            delivery.options = json.loads(claimed.options)
            delivery.attempt = delivery.options.get("retries", 0) + 1
        except Exception as error:
            raise EventDecodeError(f"Its retry state cannot be read: {error}") from error
    delivery.published_ns = event.ts_published or 0
    delivery.message_timestamp = (event.ts_published or event.ts_event) // 1_000_000
    if event.valid_for_ms is not None or valid_for_ms is not None:
        valid = [one for one in (event.valid_for_ms, valid_for_ms) if one is not None]
        published_ns = delivery.published_ns or delivery.appended_ns
        delivery.expires_ns = published_ns + min(valid) * 1_000_000


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


def _business_key(delivery: Delivery, reserved: Reservation, action: Action) -> BusinessKey:
    return BusinessKey(
        *reserved, name=_letter_name(delivery, action), becomes=_becomes(delivery, action)
    )


def _becomes(delivery: Delivery, action: Action) -> str:
    if delivery.uncertain:
        return "u"
    if action is DONE:
        return "d"
    error = delivery._exception
    # Interrupted somewhere in the middle, by a time limit for example; or it ended well, and what
    # should follow it could not be enqueued.
    if isinstance(error, Interrupt | UncertainOutcome) or (delivery.failure and error is None):
        return "u"
    return "f"


def _letter_name(delivery: Delivery, action: Action) -> bytes:
    if delivery.source.is_log:
        return delivery.entry_id
    # A message that is requeued, or retried, is another entry.
    return letter_name(delivery.message_id) if isinstance(action, DeadLetter) else b"-"


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
