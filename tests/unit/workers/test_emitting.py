"""What a handler may give back, and what becomes of it; without a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from tests.integration.logs.harness import Echo, Note, Vault, note

from streamatiq import Event, decode, emit
from streamatiq.broker import Delivery, current_delivery
from streamatiq.broker.connections import Endpoint, LinkPool, RetryPolicy
from streamatiq.broker.keys import Keys
from streamatiq.broker.logs import Logs
from streamatiq.broker.sources import AuditLevel
from streamatiq.broker.subscriptions import Subscription
from streamatiq.errors import HandlerError, LogMismatch
from streamatiq.events import emit_id
from streamatiq.workers.emitting import collect

KEYS = Keys("unit")
SOURCE = Subscription("unit.handler", (Note,), "new").sources(KEYS, {}, AuditLevel.OFF)[0]


class _Logs(Logs):
    """Logs that know every layout."""

    def __init__(self) -> None:
        super().__init__(KEYS, LinkPool(Endpoint("redis://nowhere"), RetryPolicy()), window_ms=1)
        self.checked: list[str] = []

    def check_layout(self, cls: type[Event]) -> None:
        self.checked.append(cls.event_type)
        if cls.event_type == "test.vault":
            raise LogMismatch("another layout")


def _delivery(event: Event | None) -> Delivery:
    delivery = Delivery(
        source=SOURCE,
        consumer="h:1:t",
        entry_id=b"1-1",
        data=b"",
        has_options=False,
        appended_ns=0,
        claimed_ns=0,
    )
    delivery.event = event
    delivery.queue_name = delivery.actor_name = "unit.handler"
    delivery.start(_Logs())
    return delivery


@pytest.fixture
def delivery() -> Iterator[Delivery]:
    made = _delivery(note("cause", correlation_id=uuid4()))
    token = current_delivery.set(made)
    yield made
    current_delivery.reset(token)


def _echo(text: str) -> Echo:
    return Echo(ts_event=2, text=text)


def _emitted(delivery: Delivery) -> list[Any]:
    return [decode(one.data) for one in delivery.emits]


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        (None, []),
        ([], []),
        (_echo("a"), ["a"]),
        ([_echo("a"), _echo("b")], ["a", "b"]),
        ((one for one in (_echo("a"), _echo("b"))), ["a", "b"]),
    ],
)
def test_events_an_iterable_of_them_one_or_none(
    delivery: Delivery, given: object, texts: list[str]
) -> None:
    collect(delivery, given)
    assert [event.text for event in _emitted(delivery)] == texts


def test_ids_are_derived_and_the_chain_of_causes_goes_on(delivery: Delivery) -> None:
    emit(_echo("a"), _echo("b"))
    collect(delivery, _echo("c"))
    cause = delivery.event
    assert cause is not None
    events = _emitted(delivery)
    assert [event.id for event in events] == [
        emit_id(cause.id, "unit.handler", ordinal) for ordinal in range(3)
    ]
    assert [one.event_id for one in delivery.emits] == [event.id.bytes for event in events]
    assert {event.causation_id for event in events} == {cause.id}
    assert {event.correlation_id for event in events} == {cause.correlation_id}
    assert {one.log.entries for one in delivery.emits} == {KEYS.log("test.echo", "0").entries}


@pytest.mark.parametrize("wrong", [17, object(), "text", {"a": 1}, [_echo("a"), None], Echo])
def test_anything_else_is_named(delivery: Delivery, wrong: object) -> None:
    with pytest.raises(HandlerError, match=r"Handler 'unit.handler' returned, yielded or emitted"):
        collect(delivery, wrong)


def test_a_log_of_another_layout_is_refused_in_the_handler(delivery: Delivery) -> None:
    with pytest.raises(LogMismatch):
        emit(Vault(ts_event=1))
    assert delivery.emits == []


def test_emit_needs_a_handler_of_events_that_runs(delivery: Delivery) -> None:
    delivery.settled = True
    with pytest.raises(HandlerError, match="outside of a handler"):
        emit(_echo("late"))
    token = current_delivery.set(_delivery(None))  # a plain message
    try:
        with pytest.raises(HandlerError, match=r"Use publish\(\) there"):
            emit(_echo("plain"))
    finally:
        current_delivery.reset(token)
