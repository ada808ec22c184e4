"""Dramatiq's own RedisBroker, as installed: default middleware, default options."""

from __future__ import annotations

from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import dq_name

from .actors import declare
from .base import QUEUE, Producer, Target

__all__ = ["connect"]

_target = Target.from_env()
_broker = RedisBroker(url=_target.url, namespace=_target.namespace)
_producer = declare(_broker, _target, lambda: int(_broker.do_qsize(dq_name(QUEUE))))


def connect() -> Producer:
    """Return the producer of this process."""
    return _producer
