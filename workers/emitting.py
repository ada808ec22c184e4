"""Emitting: events from inside a handler, committed with the end of its delivery."""

from __future__ import annotations

from typing import cast

from ..broker import Batch, Delivery, Emit, current_delivery
from ..errors import HandlerError
from ..events import Event, emit_id

__all__ = ["collect", "emit"]


def emit(*events: Event, cause: Event | None = None) -> None:
    """Publishes events if, and only if, the present handler succeeds.

    They are buffered, and committed in one step with the end of the delivery. Their ids are derived
    from the cause, the subscription and their order, so a handler that runs again emits the same
    ids, and nothing is stored twice within the idempotency window. Causation, correlation and trace
    are taken from the cause.

    Parameters:
      cause: In a handler of batches, the event of the batch that these follow from: they are
        committed with it, and dropped if it fails. Without it, the one that an event's causation id
        names, else the batch's last one. Elsewhere there is one cause only.

    Raises:
      HandlerError: Not called from within a handler of events, something is not an event, or
        `cause` is none of the batch.
    """
    delivery = current_delivery.get()
    of_events = delivery is not None and (delivery.event is not None or isinstance(delivery, Batch))
    if delivery is None or not of_events or delivery.settled:
        raise HandlerError(
            "emit() was called outside of a handler of events. Use publish() there: it stores the "
            "event at once."
        )
    collect(delivery, events, cause)


def collect(delivery: Delivery, events: object, cause: Event | None = None) -> None:
    """Buffers what a handler emitted: events, an iterable of them, one, or None.

    Raises:
      HandlerError: Something is not an event.
    """
    if events is None:
        return
    if isinstance(events, Event):
        _collect_one(delivery, events, cause)
        return
    try:
        several = iter(cast("tuple[object, ...]", events))
    except TypeError:
        raise _not_an_event(delivery, events) from None
    for event in several:
        _collect_one(delivery, event, cause)


def _collect_one(delivery: Delivery, event: object, wanted: Event | None) -> None:
    if not isinstance(event, Event):
        raise _not_an_event(delivery, event)
    delivery = delivery.causing(event, wanted)
    cause = delivery.event
    assert cause is not None
    derived = emit_id(cause.id, delivery.queue_name, len(delivery.emits))
    logs = delivery.logs
    logs.check_layout(type(event))
    if logs.carrier is not None:
        event = logs.carrier.carrying(event)
    delivery.emits.append(Emit(*logs.prepared(event.caused_by(cause, event_id=derived))))


def _not_an_event(delivery: Delivery, what: object) -> HandlerError:
    return HandlerError(
        f"Handler {delivery.actor_name!r} returned, yielded or emitted {what!r:.200}, which is a "
        f"{type(what).__name__} and not an Event. Return events, an iterable of events, or None."
    )
