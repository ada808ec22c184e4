"""Streamatiq's broker under a plain actor: the same code as for RedisBroker, another broker."""

from __future__ import annotations

from streamatiq import RedisStreamsBroker

from .actors import declare
from .base import QUEUE, Producer, Target
from .streamatiq_settings import UNLIMITED

__all__ = ["connect"]

_target = Target.from_env()
_broker = RedisStreamsBroker(url=_target.url, namespace=_target.namespace, settings=UNLIMITED)
_producer = declare(_broker, _target, lambda: _broker.backlog(QUEUE))


def connect() -> Producer:
    """Return the producer of this process."""
    return _producer
