"""Fencing tokens: numbers that a handler passes on, so that who was left behind is refused."""

from __future__ import annotations

from functools import partial

from ..broker import current_delivery
from ..broker.connections import Link
from ..broker.reservations import next_token
from ..errors import FencedError, HandlerError

__all__ = ["fencing_token"]


def fencing_token() -> int:
    """A number for what the present handler is about to do in the outside world.

    It grows strictly within a subscription and partition or lane, or a lane of a work queue: of two
    runs of one event the later has the higher one. Pass it on, and let the receiver refuse a
    number that is lower than one it has seen: then a run that was stopped, declared dead and woke
    up again changes nothing there any more.

    One round trip, in which the server also looks whether the delivery is still this process's. In
    a coroutine, `await asyncio.to_thread(fencing_token)`. Thread-safe.

    Returns:
      The token, from 1. Each call gives a higher one.

    Raises:
      FencedError: The delivery was taken from this process. Let it end the handler.
      HandlerError: Not called from within a handler or actor.
      BrokerConnectionError: The server cannot be reached.
      BrokerError: The server refused.
    """
    delivery = current_delivery.get()
    if delivery is None or delivery.settled or delivery.done_ns > delivery.started_ns:
        raise HandlerError("fencing_token() was called outside of a handler or actor that runs.")
    call = next_token(
        delivery.source.keys,
        group=delivery.source.group,
        consumer=delivery.consumer,
        entry_id=delivery.entry_id,
    )
    token = delivery.logs.links.call(partial(Link.run, call=call))
    if isinstance(token, int):
        return token
    why = "was declared dead" if token == "FENCED" else "does not hold this entry any more"
    raise FencedError(
        f"{delivery.source.name} {delivery.entry_id.decode()}: this process ({delivery.consumer}) "
        f"{why}. Nothing that this run of {delivery.actor_name!r} does is committed, and the event "
        "runs elsewhere: do not go on."
    )
