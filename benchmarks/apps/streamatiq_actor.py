"""Streamatiq's broker under a plain actor: the same code as for RedisBroker, another broker."""

from __future__ import annotations

from streamatiq import RedisStreamsBroker

from .actors import declare
from .base import Producer, Target

__all__ = ["connect"]

_target = Target.from_env()
_producer = declare(RedisStreamsBroker(url=_target.url, namespace=_target.namespace), _target)


def connect() -> Producer:
    """Return the producer of this process."""
    return _producer
