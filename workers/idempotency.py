"""Idempotency by business key. See `Idempotency` and docs/exactly-once.md.

The reservation is taken in the worker's thread, right before the handler runs, or a moment earlier
(see `reserving_ahead`); how it ends is part of the settle. What a crash leaves behind is a
reservation of a run that is no more: the next delivery finds it, and `on_uncertain` decides.
"""

from __future__ import annotations

import functools
import inspect
import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

from dramatiq import Actor, Broker
from dramatiq.asyncio import async_to_sync
from dramatiq.logging import get_logger
from dramatiq.middleware import Middleware

from ..broker import Delivery, RedisStreamsBroker, current_delivery
from ..broker.claimed import Claimed
from ..broker.combining import Combiner
from ..broker.connections import LinkPool
from ..broker.dead_letters import dead_letter
from ..broker.reservations import (
    Answer,
    Ask,
    Reservation,
    Standing,
    Want,
    letter_name,
    reserve_all,
)
from ..broker.settlements import DUPLICATE, HAND_BACK, Action, Park
from ..broker.turning_away import TurnedAway
from ..errors import BrokerConnectionError, HandlerError, UncertainOutcome
from ..events import Event
from .emitting import collect
from .idempotency_options import Plan, plan_of
from .reserving_ahead import FRESH_S, Ahead

__all__ = ["Idempotency"]

#: Milliseconds until a delivery is tried again whose key could not be reserved because the server
#: was not reached. Parking it waits for the server, too.
UNREACHED_MS = 1_000


class Idempotency(Middleware):
    """Runs a handler once for all events of the same business key.

    `@on(..., idempotency_key=...)` adds it to the broker by itself; for plain actors,
    `broker.add_middleware(Idempotency())` before they are declared. It has these options:

      idempotency_key: A function of the event, or of the actor's arguments, that returns a str;
        None or '' means that this one has none. It must depend on nothing but its arguments, and
        be quick: it is called once or twice a delivery, also in the thread that reads.
      idempotency_ttl_s: How long keys are remembered at least, seconds, and at most twice as long;
        None: for ever. Default: the settings' `event_bus.idempotency_window`, and for ever for
        subscriptions to orders. Longer than the longest run: a key that expires under a running
        handler guards nothing. One for all actors of a work queue.
      on_uncertain: What happens where nobody knows whether the handler did its work, because its
        process died, or it was interrupted: `rerun` (default), `dead_letter` (cause `uncertain`;
        requeued, it runs), or a function of the event or arguments, plain or async, that asks the
        outside world. It returns False: it did not happen, the handler runs; True: it did; or the
        events that the handler would have emitted: it did, and they are emitted now. If it raises,
        the delivery fails as if the handler had, and it is asked again.

    Guarantees: of the deliveries with the same key in one stream (partition or lane) of a log, or
    of the same actor and key in one work queue, one at a time runs its handler, and none once one
    is done, for as long as the key is remembered. Events with the same business key must therefore
    share their partition key. A handler that raises frees its key, except where it was interrupted
    (time limit, shutdown) or raises `UncertainOutcome`. What is read together shares one round
    trip; a delivery that comes alone, or has another `on_uncertain` than `rerun`, costs one, shared
    by those that ask at the same moment. Without a key it costs nothing.

    Thread-safe. It must come behind other middleware that turns deliveries away.
    """

    def __init__(self) -> None:
        self.logger = get_logger(__name__, type(self))
        #: Filled while actors are declared, which is before they run.
        self._plans: dict[Actor[..., Any], Plan] = {}
        #: By the connections that they use: middleware may serve several brokers.
        self._combiners: dict[LinkPool, Combiner[Ask, list[Answer]]] = {}
        self._ahead = Ahead()

    @property
    def actor_options(self) -> set[str]:
        """Options that actors may have."""
        return {"idempotency_key", "idempotency_ttl_s", "on_uncertain"}

    # -- hooks ---------------------------------------------------------------------------------

    def before_declare_actor(self, broker: Broker, actor: Actor[..., Any]) -> None:
        """Checks the actor's options.

        Raises:
          HandlerDefinitionError: Something about them is wrong.
        """
        if isinstance(broker, RedisStreamsBroker):
            plan = plan_of(broker, actor, self._plans.values())
            if plan is not None:
                self._plans[actor] = plan
                self._ahead.add(broker, plan)
                actor.fn = _replaceable(actor.fn)

    def before_buffering(self, broker: RedisStreamsBroker, claimed: list[Claimed]) -> list[Claimed]:
        """Reserves the business keys of what one read has brought, where that does no harm."""
        return self._ahead.reserve(broker, claimed)

    def before_delivery(self, broker: RedisStreamsBroker, delivery: Delivery) -> None:
        """Reserves the delivery's business key, unless it just was.

        Raises:
          TurnedAway: The handler does not run.
        """
        for _, ending, why in self.before_batch(broker, [delivery]):
            raise TurnedAway(ending, why)

    def before_batch(
        self, broker: RedisStreamsBroker, deliveries: Sequence[Delivery]
    ) -> list[tuple[Delivery, Action, str]]:
        """Reserves the business keys of deliveries of one actor, in one round trip a stream.

        Returns:
          Those whose handler must not run, how they end, and why. Of the others, those with
          `instead` run that in place of the handler.
        """
        if not deliveries:
            return []
        actor = broker.actors.get(deliveries[0].actor_name)
        plan = None if actor is None else self._plans.get(actor)
        if plan is None:
            return []
        streams: dict[tuple[object, str], list[Delivery]] = {}
        stale_s = time.monotonic() - FRESH_S
        for one in deliveries:
            if one.reserved_s < stale_s if one.reserved else self._has_key(plan, one):
                streams.setdefault((one.source, one.consumer), []).append(one)
        found: list[tuple[Delivery, Action, str]] = []
        for several in streams.values():
            try:
                answers = self._reserve(broker, plan, several)
            except BrokerConnectionError as error:
                self.logger.warning(
                    "%s: business keys cannot be reserved: %s Not run; tried again.",
                    plan.name,
                    error,
                )
                for one in several:
                    # If only the reply was lost, parking frees what was free before. Who can ask
                    # the outside world rather asks, for it may not have been.
                    one.uncertain = callable(plan.on_uncertain)
                    found.append((one, Park(UNREACHED_MS, b""), str(error)))
                continue
            for one, answer in zip(several, answers, strict=True):
                ending = self._apply(plan, one, answer)
                if ending is not None:
                    found.append((one, ending, f"business key is {answer.standing}"))
        return found

    # -- parts ---------------------------------------------------------------------------------

    def _has_key(self, plan: Plan, delivery: Delivery) -> bool:
        try:
            key = plan.key_of(delivery.args, delivery.kwargs)
        except Exception as error:  # noqa: BLE001 - a user's function may raise anything
            # A failure of the delivery, like its handler's own.
            delivery.instead = partial(_fail, error)
            return False
        if not key:
            return False
        key = plan.stored(key, is_event=delivery.source.is_log)
        delivery.reserved = Reservation(key, plan.window_ms, os.urandom(4).hex())
        return True

    def _reserve(
        self, broker: RedisStreamsBroker, plan: Plan, deliveries: Sequence[Delivery]
    ) -> list[Answer]:
        source, takes = deliveries[0].source, plan.on_uncertain != "dead_letter"
        wants = []
        for one in deliveries:
            assert one.reserved is not None
            name = one.entry_id if source.is_log else letter_name(one.message_id)
            wants.append(Want(one.reserved.key, one.entry_id, one.reserved.run, name, takes))
        others = tuple(broker.lanes_beside(source))
        consumer = deliveries[0].consumer
        ask = Ask(source.keys, others, source.group, consumer, plan.window_ms, wants)
        return self._combiner(broker).ask(ask)

    def _combiner(self, broker: RedisStreamsBroker) -> Combiner[Ask, list[Answer]]:
        links = broker.logs.links
        combiner = self._combiners.get(links)
        if combiner is None:
            # Of two that are made at once, one is kept.
            combiner = self._combiners.setdefault(links, Combiner(partial(reserve_all, links)))
        return combiner

    def _apply(self, plan: Plan, delivery: Delivery, answer: Answer) -> Action | None:
        """How the delivery ends, if its handler does not run."""
        key, shown = delivery.reserved, f"{delivery.source.name} {delivery.entry_id.decode()}"
        assert key is not None
        match answer.standing:
            case Standing.NEW:
                return None
            case Standing.REQUEUED:
                if callable(plan.on_uncertain):
                    delivery.uncertain = True
                    delivery.instead = partial(_reconcile, plan, delivery)
                return None
            case Standing.OURS | Standing.UNCERTAIN:
                return self._uncertain(plan, delivery, answer, shown)
            case Standing.DONE:
                self.logger.info("%s: business key %r is done; not run.", shown, key.key)
                ending: Action = DUPLICATE
            case Standing.BUSY:
                ending = Park(answer.delay_ms, b"")
            case Standing.GONE | Standing.FENCED:
                self.logger.warning(
                    "%s: it is not this process's any more (%s); not run.", shown, answer.standing
                )
                ending = HAND_BACK  # which does nothing to what is another's
        delivery.reserved = None
        return ending

    def _uncertain(
        self, plan: Plan, delivery: Delivery, answer: Answer, shown: str
    ) -> Action | None:
        assert delivery.reserved is not None
        what = (
            f"{shown}: nobody knows whether {plan.name!r} did its work for business key "
            f"{delivery.reserved.key!r} (it stood at {answer.stood!r})"
        )
        if plan.on_uncertain == "rerun":
            self.logger.warning("%s; it runs again.", what)
            return None
        delivery.uncertain = True
        if plan.on_uncertain == "dead_letter":
            self.logger.error("%s; dead-lettered.", what)
            error = UncertainOutcome(
                f"{what}. Find out. If it was not done, requeue this letter, and it runs; else "
                "purge it."
            )
            return dead_letter(delivery, "uncertain", error)
        self.logger.warning("%s; asking.", what)
        delivery.instead = partial(_reconcile, plan, delivery)
        return None


def _replaceable(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, or what a delivery says to run `instead`."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        delivery = current_delivery.get()
        if delivery is None or delivery.instead is None:
            return function(*args, **kwargs)
        instead, delivery.instead = delivery.instead, None
        return instead(partial(function, *args, **kwargs))

    return run


def _fail(error: Exception, run: Callable[[], Any]) -> Any:
    raise error


def _reconcile(plan: Plan, delivery: Delivery, run: Callable[[], Any]) -> Any:
    """Asks the outside world, and runs the handler if it says that nothing happened."""
    ask = cast("Callable[..., Any]", plan.on_uncertain)
    if inspect.iscoroutinefunction(ask):
        ask = async_to_sync(ask)
    answer = ask(*delivery.args, **delivery.kwargs)
    if answer is False:
        delivery.uncertain = False
        return run()
    if answer is not True:
        is_events = isinstance(answer, Event | Iterable) and not isinstance(answer, str | bytes)
        if not is_events or delivery.event is None:
            events = "" if delivery.event is None else ", or an event or events"
            raise HandlerError(
                f"Handler {plan.name!r}: on_uncertain returned {answer!r:.200}, a "
                f"{type(answer).__name__}. Return False (it did not happen) or True (it did)"
                f"{events}."
            )
        collect(delivery, answer)
    delivery.uncertain = False
    return None
