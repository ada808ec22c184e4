"""Fencing tokens: the later of two runs has the higher one, and who was left behind gets none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing

import pytest
from tests.integration.logs.harness import Bench, Note, note
from tests.support import wait_until

from streamatiq import fencing_token
from streamatiq.broker import current_delivery
from streamatiq.broker.connections import Endpoint, Link
from streamatiq.broker.identity import Identity
from streamatiq.broker.members import reads_of
from streamatiq.broker.reclaimer import Reclaimer
from streamatiq.errors import FencedError, HandlerError


def _declare_dead(bench: Bench, name: str, consumer: str) -> None:
    sources = bench.broker._sources(name)
    members = bench.keys.members
    reclaimer = Reclaimer(members, Identity(), lambda: reads_of(sources), max_deliveries=5)
    with closing(Link(Endpoint(bench.broker.endpoint.url))) as link:
        reclaimer.reclaim(link, consumer, fence=True)


def test_a_zombie_is_refused_by_the_venue_and_gets_no_token(
    open_bench: Callable[..., Bench],
) -> None:
    ledger: list[tuple[str, int]] = []
    refused: list[int] = []
    errors: list[str] = []
    has_token, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    consumers: list[str] = []

    def venue(order: str, token: int) -> None:
        if any(seen > token for _, seen in ledger):
            refused.append(token)
            raise PermissionError(f"{token} is old")
        ledger.append((order, token))

    def declare(bench: Bench, waits: bool) -> None:
        @bench.on(Note, name="sends", start="earliest")
        def sends(event: Note) -> None:
            delivery = current_delivery.get()
            assert delivery is not None
            token = fencing_token()
            if waits and not consumers:
                consumers.append(delivery.consumer)
                has_token.set()
                assert go_on.wait(20)
                try:
                    fencing_token()
                except FencedError as error:
                    errors.append(str(error))
                try:
                    venue(event.text, token)
                finally:
                    ended.set()
            else:
                venue(event.text, token)

    zombie, other = open_bench(), open_bench()
    declare(zombie, True)
    declare(other, False)
    zombie.start(threads=1)
    zombie.logs.publish(note("order"))
    assert has_token.wait(10)
    other.start(threads=1)
    _declare_dead(zombie, "sends", consumers[0])
    wait_until(lambda: ledger)
    go_on.set()
    assert ended.wait(10)
    other.settled("sends")
    ((order, token),) = ledger
    assert (order, refused) == ("order", [1])
    assert token > 1
    assert "was declared dead" in errors[0]
    assert consumers[0] in errors[0]


def test_retries_get_higher_tokens_also_in_coroutines(bench: Bench) -> None:
    tokens: list[int] = []

    @bench.on(Note, name="grows")
    async def grows(event: Note) -> None:
        tokens.append(await asyncio.to_thread(fencing_token))
        if len(tokens) < 3:
            raise RuntimeError("again")

    bench.start()
    bench.logs.publish(note("a"))
    bench.settled("grows")
    assert tokens == [1, 2, 3]


def test_outside_of_a_handler_there_is_none() -> None:
    with pytest.raises(HandlerError, match="outside of a handler"):
        fencing_token()
