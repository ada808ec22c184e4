"""What handlers raised while a test ran them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dramatiq import Broker, MessageProxy
from dramatiq.middleware import Middleware

from ..broker import Delivery

__all__ = ["Failure", "Failures"]


@dataclass(frozen=True, slots=True)
class Failure:
    """One run of a handler or actor that raised.

    Parameters:
      name: Of the subscription or actor.
      args: What it was called with; a handler's only argument is its event.
      error: What it raised.
      attempt: 1 for the first run.
    """

    name: str
    args: tuple[Any, ...]
    error: BaseException
    attempt: int


class Failures(Middleware):
    """Collects failures, in the order in which they happened."""

    def __init__(self) -> None:
        #: Appending to a list is atomic.
        self.found: list[Failure] = []

    def after_process_message(
        self,
        broker: Broker,
        message: MessageProxy,
        *,
        result: Any | None = None,
        exception: BaseException | None = None,
    ) -> None:
        if exception is not None:
            attempt = message.attempt if isinstance(message, Delivery) else 1
            self.found.append(Failure(message.actor_name, tuple(message.args), exception, attempt))
