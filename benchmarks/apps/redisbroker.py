"""Dramatiq's own RedisBroker, as installed: default middleware, default options."""

from __future__ import annotations

from dramatiq.brokers.redis import RedisBroker

from .actors import declare
from .base import Producer, Target

__all__ = ["connect"]

_target = Target.from_env()
_producer = declare(RedisBroker(url=_target.url, namespace=_target.namespace), _target)


def connect() -> Producer:
    """Return the producer of this process."""
    return _producer
