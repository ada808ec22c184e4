"""The default broker: built from the settings where the application has set none."""

from __future__ import annotations

import threading

import dramatiq
import dramatiq.broker
from dramatiq.middleware import default_middleware

from ..broker import RedisStreamsBroker
from ..errors import NotAStreamatiqBroker
from ..settings import Settings
from .event_loop import EventLoop
from .loader import HandlerLoader

__all__ = ["default_broker"]

_lock = threading.Lock()  # guards the choice below, not the broker


def default_broker(settings: Settings | None = None) -> RedisStreamsBroker:
    """Dramatiq's global broker; built from the settings and set, where there is none.

    Thread-safe. Touches no server.

    Parameters:
      settings: Used only if a broker is built; default: `Settings.load()`.

    Raises:
      NotAStreamatiqBroker: The global broker is of another kind.
      ConfigurationError: The settings are wrong.
    """
    with _lock:
        # Not dramatiq.get_broker(): it would make a RabbitMQ or Redis broker where none is set.
        present = dramatiq.broker.global_broker
        if present is None:
            settings = settings or Settings.load()
            present = RedisStreamsBroker(
                settings=settings,
                middleware=[
                    *(make() for make in default_middleware),
                    EventLoop(),
                    HandlerLoader(settings.workers.handlers),
                ],
            )
            dramatiq.set_broker(present)
            RedisStreamsBroker.implicit = present
        if not isinstance(present, RedisStreamsBroker):
            raise NotAStreamatiqBroker(
                f"Dramatiq's global broker is a {type(present).__name__}. Events need a "
                "RedisStreamsBroker: dramatiq.set_broker(RedisStreamsBroker(url=...)) before "
                "handlers are declared, or set none."
            )
        return present
