"""Lends the handlers and actors of one broker to another, and gives them back."""

from __future__ import annotations

from dramatiq import Actor

from ..broker import RedisStreamsBroker

__all__ = ["Loan"]


class Loan:
    """Actors of a broker, lent to another. Not thread-safe: for the begin and the end of a test.

    Parameters:
      lender: Its actors and subscriptions; unchanged but for what `Actor.broker` says.
      borrower: A broker that has none yet.
    """

    def __init__(self, lender: RedisStreamsBroker, borrower: RedisStreamsBroker) -> None:
        self._lender = lender
        self._actors: dict[str, Actor[..., object]] = dict(lender.actors)
        for name, subscription in lender.subscriptions.items():
            borrower.subscriptions[name] = subscription
        borrower.queues |= lender.queues
        borrower.actors.update(self._actors)
        for actor in self._actors.values():
            actor.broker = borrower

    def end(self) -> None:
        """What was lent belongs to its broker again."""
        for actor in self._actors.values():
            actor.broker = self._lender
