"""Reserves business keys for all that one read has brought, before a thread takes it.

A round trip for each delivery, right before its handler, is most of what a quick handler costs.
Where a handler just runs again when nobody knows whether it did its work (`on_uncertain="rerun"`),
a reservation that is a moment early does no harm: what a crash leaves behind is run again either
way. The other two ways would ask, or dead-letter, for what never began; there a key is reserved
right before the run.

A reservation counts for `FRESH_S`. Whoever waited longer (behind its key, a breaker, a busy thread,
or because the process stood still) asks again right before its run: the entry may be another's by
then, or the key forgotten. What is done ends here, unrun; what is neither that nor free is left to
the moment before its run, too.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from dramatiq.logging import get_logger

from ..broker import RedisStreamsBroker
from ..broker.claimed import Claimed
from ..broker.connections import Link, LinkPool
from ..broker.payloads import decode_message, with_event
from ..broker.reservations import Answer, Ask, Reservation, Standing, Want, letter_name, reserve_all
from ..broker.settlements import DUPLICATE
from ..broker.sources import Source
from ..errors import BrokerError
from .idempotency_options import Plan

__all__ = ["FRESH_S", "Ahead"]

T = TypeVar("T")

#: Seconds for which a reservation that was made ahead counts: shorter than it takes until a process
#: that does not answer is declared dead.
FRESH_S = 0.25
#: Fewer entries than this are not worth a round trip before a thread may have the first.
FEW = 2


class Ahead:
    """Thread-safe once all plans are added, which is before anything is read."""

    def __init__(self) -> None:
        self.logger = get_logger(__name__, type(self))
        #: By broker and queue, and by actor: middleware may serve several brokers.
        self._plans: dict[tuple[RedisStreamsBroker, str], dict[str, Plan]] = {}

    def add(self, broker: RedisStreamsBroker, plan: Plan) -> None:
        """Reserves ahead for an actor, if that does no harm, and some good: of what is conflated,
        most is never run."""
        subscription = broker.subscriptions.get(plan.queue)
        conflates = subscription is not None and subscription.conflate
        if plan.on_uncertain == "rerun" and not conflates:
            self._plans.setdefault((broker, plan.queue), {})[plan.name] = plan

    def reserve(self, broker: RedisStreamsBroker, claimed: list[Claimed]) -> list[Claimed]:
        """What one read has brought, with what became of its keys: reserved, or known as done."""
        plans = self._plans.get((broker, claimed[0].source.group))
        guards = broker.guards
        # What a guard stops may stop for long.
        if plans is None or len(claimed) < FEW or (guards is not None and not guards.quiet):
            return claimed
        found = list(claimed)
        run = os.urandom(4).hex()
        streams: dict[tuple[Source, int], list[tuple[int, Want]]] = {}
        for at, one in enumerate(claimed):
            if one.ending is not None:
                continue
            found[at], plan, key, name = _look_at(plans, one)
            if plan is None or not key:
                continue
            want = Want(key, one.entry_id, f"{run}.{at}", name, takes=False)
            streams.setdefault((one.source, plan.window_ms), []).append((at, want))
        if not streams:
            return found
        asks = [
            Ask(
                source.keys,
                tuple(broker.lanes_beside(source)),
                source.group,
                claimed[0].consumer,
                window_ms,
                [want for _, want in wants],
            )
            for (source, window_ms), wants in streams.items()
        ]
        asked_s = time.monotonic()
        answers = self._answers(broker, asks)
        for ((_, window_ms), wants), answer in zip(streams.items(), answers, strict=True):
            for place, (at, want) in enumerate(wants):
                reserved = Reservation(want.key, window_ms, want.run)
                said = None if isinstance(answer, Exception) else answer[place]
                if said is not None and said.standing is Standing.DONE:
                    entry = want.entry_id.decode()
                    self.logger.info(
                        "%s %s: business key %r is done; not run.",
                        found[at].source.name,
                        entry,
                        want.key,
                    )
                found[at] = _applied(found[at], reserved, said, asked_s)
        return found

    def _answers(
        self, broker: RedisStreamsBroker, asks: Sequence[Ask]
    ) -> list[list[Answer] | Exception]:
        try:
            return reserve_all(_Once(broker.logs.links), asks)
        except BrokerError as error:
            self.logger.debug("Business keys cannot be reserved ahead: %s", error)
            return [error for _ in asks]


def _look_at(plans: dict[str, Plan], one: Claimed) -> tuple[Claimed, Plan | None, str, bytes]:
    """An entry, decoded; its plan, key, and the name of its dead letter. What is wrong with any of
    them, its run will meet, and say."""
    args: Any
    kwargs: Any
    if one.source.is_log:
        one = with_event(one)
        if one.event is None:
            return one, None, "", b""
        plan, args, kwargs, name = plans.get(one.source.group), (one.event,), {}, one.entry_id
    else:
        fields = one.decoded or decode_message(one)
        if fields is None:
            return one, None, "", b""
        one = one._replace(decoded=fields)
        plan = plans.get(str(fields.get("actor_name")))
        args, kwargs = fields.get("args"), fields.get("kwargs")
        name = letter_name(str(fields.get("message_id")))
    if plan is None:
        return one, None, "", b""
    try:
        key = plan.key_of(args, kwargs)
    except Exception:  # noqa: BLE001 - a user's function may raise anything
        return one, None, "", b""
    return one, plan, plan.stored(key, is_event=one.source.is_log), name


class _Once:
    """Asks once: in the thread that reads, an outage is the reader's affair, and a stop waits."""

    def __init__(self, links: LinkPool) -> None:
        self._links = links

    def call(self, action: Callable[[Link], T]) -> T:
        with self._links.borrow() as link:
            return action(link)


def _applied(one: Claimed, reserved: Reservation, answer: Answer | None, asked_s: float) -> Claimed:
    if answer is None:
        # It may have been reserved, and only the reply was lost: asked again under this run's name.
        return one._replace(reserved=reserved, reserved_s=-math.inf)
    if answer.standing in (Standing.NEW, Standing.REQUEUED):
        # Since it was asked for: this process may have stood still while the answer was there.
        return one._replace(reserved=reserved, reserved_s=asked_s)
    if answer.standing is Standing.DONE:
        return one._replace(ending=DUPLICATE)
    return one
