"""Wrong declarations: each is one clear error where it is made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import dramatiq
import pytest
from tests.integration.logs.harness import Bench, Note

from streamatiq import Event, Idempotency, OrderEvent, on
from streamatiq.errors import HandlerDefinitionError


async def _coroutine(event: Event) -> str:
    return ""


async def _generator(event: Event) -> AsyncIterator[Event]:
    yield event


def _key(event: Event) -> str:
    return str(event.id)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"idempotency_key": "order_id"}, "'it': idempotency_key is 'order_id'; give a function"),
    ({"idempotency_key": _coroutine}, "'it': idempotency_key is a coroutine function"),
    ({"idempotency_key": _key, "idempotency_ttl_s": 0}, "'it': idempotency_ttl_s is 0; give seco"),
    ({"idempotency_key": _key, "idempotency_ttl_s": True}, "'it': idempotency_ttl_s is True"),
    ({"idempotency_key": _key, "idempotency_ttl_s": "1h"}, "'it': idempotency_ttl_s is '1h'"),
    ({"idempotency_key": _key, "idempotency_ttl_s": float("nan")}, "idempotency_ttl_s is nan"),
    ({"idempotency_key": _key, "on_uncertain": "retry"}, "'it': on_uncertain is 'retry'; use"),
    ({"idempotency_key": _key, "on_uncertain": _generator}, "on_uncertain is an async generator"),
    ({"on_uncertain": "dead_letter"}, "'it': on_uncertain is about business keys"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_wrong_options_of_a_handler(bench: Bench, options: dict[str, Any], message: str) -> None:
    with pytest.raises(HandlerDefinitionError, match=message):
        on(Note, name="it", broker=bench.broker, **options)(lambda event: None)
    assert "it" not in bench.broker.subscriptions


@pytest.mark.parametrize("option", ["idempotency_key", "on_uncertain"])
def test_functions_of_an_event_take_one_argument(bench: Bench, option: str) -> None:
    options: dict[str, Any] = {"idempotency_key": _key, option: lambda: ""}
    with pytest.raises(HandlerDefinitionError, match=f"'it': {option} must take one argument"):
        on(Note, name="it", broker=bench.broker, **options)(lambda event: None)


@pytest.mark.parametrize(
    ("options", "message"),
    [*WRONG, ({"idempotency_ttl_s": 5}, "'it': idempotency_ttl_s is about business keys")],
)
def test_wrong_options_of_an_actor(
    open_bench: Callable[..., Bench], options: dict[str, Any], message: str
) -> None:
    bench = open_bench(middleware=[Idempotency()])
    with pytest.raises(HandlerDefinitionError, match=message):
        dramatiq.actor(actor_name="it", broker=bench.broker, **options)(lambda event: None)
    assert "it" not in bench.broker.actors


def test_a_queue_has_one_time_to_live(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench(middleware=[Idempotency()])

    def declare(name: str, **options: Any) -> None:
        make = dramatiq.actor(
            actor_name=name, broker=bench.broker, idempotency_key=lambda: "", **options
        )
        make(lambda: None)

    declare("one")
    with pytest.raises(
        HandlerDefinitionError,
        match="'two': its business keys are to be kept for ever, those of 'one' in the same queue "
        "'default' for 300 s",
    ):
        declare("two", idempotency_ttl_s=None)
    declare("two", idempotency_ttl_s=None, queue_name="other")
    declare("three", idempotency_ttl_s=300)


@pytest.mark.parametrize(
    ("cls", "options", "done_ms"),
    [
        (Note, {}, None),
        (Note, {"idempotency_key": _key}, None),
        (Note, {"idempotency_ttl_s": 2.5}, 2500),
        (Note, {"idempotency_ttl_s": None}, 0),
        (OrderEvent, {}, None),
        (OrderEvent, {"idempotency_key": _key}, 0),
        (OrderEvent, {"idempotency_key": _key, "idempotency_ttl_s": 60}, 60_000),
    ],
)
def test_how_long_done_marks_are_kept(
    bench: Bench, cls: type[Event], options: dict[str, Any], done_ms: int | None
) -> None:
    on(cls, name="it", broker=bench.broker, **options)(lambda event: None)
    assert bench.broker.subscriptions["it"].done_ms == done_ms
    assert all(source.done_ms == done_ms for source in bench.broker._sources("it"))
    added = [one for one in bench.broker.middleware if isinstance(one, Idempotency)]
    assert len(added) == bool(options)


def test_called_by_hand_a_handler_is_as_written(bench: Bench) -> None:
    @bench.on(Note, name="it", idempotency_key=_key)
    def it(event: Note) -> str:
        return event.text

    assert it(Note(ts_event=1, text="x")) == "x"
