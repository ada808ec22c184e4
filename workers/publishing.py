"""Publishing through the default broker: what application code calls."""

from __future__ import annotations

from collections.abc import Sequence

from ..broker import Receipt
from ..events import Event
from .defaults import default_broker

__all__ = ["apublish", "apublish_many", "publish", "publish_many"]


def publish(event: Event) -> Receipt:
    """Appends one event to the log of its type; see `Logs.publish`."""
    return default_broker().logs.publish(event)


def publish_many(events: Sequence[Event]) -> list[Receipt]:
    """Appends events in few round trips; see `Logs.publish_many`."""
    return default_broker().logs.publish_many(events)


async def apublish(event: Event) -> Receipt:
    """`publish` for a coroutine."""
    return await default_broker().logs.apublish(event)


async def apublish_many(events: Sequence[Event]) -> list[Receipt]:
    """`publish_many` for a coroutine."""
    return await default_broker().logs.apublish_many(events)
