"""Right before a handler would run: does it? And of a batch: which of its events?

Looks at the deadline and at halts, then asks the hooks of middleware; see `turning_away`. And right
after: what becomes of the events of a batch that its handler says have failed.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from dramatiq.logging import get_logger
from dramatiq.middleware import Retries

from ..errors import BatchFailed, HandlerError
from .batch import Batch
from .consumer import UNDECIDED_MS
from .current import current_delivery
from .delivery import Delivery
from .guard_subjects import halted_subject
from .hooks import Found, Hook, Hooks
from .settlements import EXPIRED, Park
from .turning_away import TurnedAway

if TYPE_CHECKING:
    from .redis_streams import RedisStreamsBroker

__all__ = ["Asking"]


class Asking:
    """Thread-safe: all state is the delivery's.

    Parameters:
      broker: Whose handlers run.
      hooks: Of its middleware.
    """

    def __init__(self, broker: RedisStreamsBroker, hooks: Hooks) -> None:
        self._logger = get_logger(__name__, type(self))
        self._broker = broker
        self._hooks = hooks

    def ask(self, delivery: Delivery) -> None:
        """Whether the handler is to run now; of a batch, for which of its events. Looks at the
        deadline and at halts, then asks the hooks `before_delivery`; see `turning_away`.

        Raises:
          TurnedAway: It is not.
        """
        if isinstance(delivery, Batch):
            self._ask_batch(delivery)
            return
        self._ask_deadline(delivery)
        for hook, middleware in self._before_delivery():
            self._ask(hook, middleware, delivery)

    def _before_delivery(self) -> Found:
        guards = self._broker.guards
        hooks: Found = self._hooks.before("delivery")
        if guards is not None and not guards.quiet:
            hooks = ((_check_halts, guards), *hooks)
        return hooks

    def _ask_batch(self, batch: Batch) -> None:
        """Asks for each event; middleware that has a hook `before_batch(broker, deliveries)` is
        asked for all at once, and returns those that it turns away, how they end, and why.

        Raises:
          TurnedAway: Every event was turned away.
        """
        for one in batch.members:
            if one.expires_ns:
                with suppress(TurnedAway):  # the member knows
                    self._ask_deadline(one)
        batch.choose()
        for hook, middleware in self._before_delivery():
            at_once = getattr(middleware, "before_batch", None)
            if at_once is not None:
                self._ask_at_once(at_once, middleware, batch)
            else:
                for one in batch.chosen:
                    with suppress(TurnedAway):
                        self._ask(hook, middleware, one)
            batch.choose()
        batch.part_with_exceptions()
        for one in batch.out_of_order():
            with suppress(TurnedAway):
                self._turn_away(one, TurnedAway(None, "one of its key comes again before it"))
        batch.choose()
        if not batch.chosen:
            batch.turned_away = True
            raise TurnedAway(None, "every event of the batch was turned away")

    def _ask_at_once(self, hook: Hook, middleware: object, batch: Batch) -> None:
        try:
            refused = list(hook(self._broker, batch.chosen))
        except Exception as error:
            self._logger.exception(
                "before_batch of %r failed; %d events stay pending and run again in %d s.",
                middleware,
                len(batch.chosen),
                UNDECIDED_MS // 1000,
            )
            refused = [(one, Park(UNDECIDED_MS, b""), str(error)) for one in batch.chosen]
        for one, ending, why in refused:
            with suppress(TurnedAway):
                self._turn_away(one, TurnedAway(ending, why))

    def _ask_deadline(self, delivery: Delivery) -> None:
        if 0 < delivery.expires_ns < time.time_ns():
            self._turn_away(delivery, TurnedAway(EXPIRED))

    def _ask(self, hook: Hook, middleware: object, delivery: Delivery) -> None:
        """Calls a hook `before_delivery`; see `turning_away`.

        Raises:
          TurnedAway: The handler does not run now.
        """
        try:
            hook(self._broker, delivery)
        except TurnedAway as away:
            self._turn_away(delivery, away)
        except Exception as error:
            # Whether the handler may run is not known: it does not.
            self._logger.exception(
                "before_delivery of %r failed; %r stays pending and runs again in %d s.",
                middleware,
                delivery,
                UNDECIDED_MS // 1000,
            )
            self._turn_away(delivery, TurnedAway(Park(UNDECIDED_MS, b""), str(error)))

    def _turn_away(self, delivery: Delivery, away: TurnedAway) -> NoReturn:
        delivery.turned_away = True
        delivery.ending = away.ending
        delivery.hold_s = away.hold_s
        guards = self._broker.guards
        if guards is not None:
            guards.leave(delivery.queue_name, "" if delivery.event is None else delivery.event.key)
        for hook, middleware in self._hooks.after("turned_away"):
            try:
                hook(self._broker, delivery)
            except Exception:
                self._logger.critical("after_turned_away of %r failed.", middleware, exc_info=True)
        raise away

    def fail_members(self, batch: Batch, failed: BatchFailed) -> BaseException:
        """Lets Dramatiq's Retries decide for each event that a handler of batches says has failed.

        Returns:
          What the batch as a whole is to be told: `failed`, or what is wrong with it.
        """
        try:
            failures = batch.failures(failed)
        except HandlerError as wrong:
            batch.stuff_exception(wrong)
            return wrong
        batch.members_failed = True
        retries = [
            (hook, one)
            for hook, one in self._hooks.after("process_message")
            if isinstance(one, Retries)
        ]
        for member, error in failures:
            member.stuff_exception(error)
            current_delivery.set(member)
            for hook, middleware in retries:
                try:
                    hook(self._broker, member, exception=error)
                except Exception:
                    self._logger.critical("%r failed for %r.", middleware, member, exc_info=True)
        current_delivery.set(batch)
        return failed


def _check_halts(broker: RedisStreamsBroker, delivery: Delivery) -> None:
    """Halts need no middleware."""
    guards = broker.guards
    if guards is not None:
        guards.check(halted_subject(broker, delivery))
