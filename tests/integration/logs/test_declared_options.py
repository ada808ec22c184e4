"""`@on` finds mistakes when a handler is declared, and says what to write instead."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
from tests.integration.logs.harness import Bench, Echo, Note, Spread, Urgent

from streamatiq import Event, FillEvent, MarketDataEvent, OrderEvent, on
from streamatiq.errors import HandlerDefinitionError


def _one(event: Note) -> None: ...
def _list(events: list[Note]) -> None: ...
def _sequence(events: Sequence[Note]) -> None: ...
def _iterable(events: Iterable[Event]) -> None: ...
def _bare_list(events: list) -> None: ...  # type: ignore[type-arg]  # what is tried
def _union(event: Note | Echo) -> None: ...
def _base(event: Event) -> None: ...
def _untyped(event): ...  # type: ignore[no-untyped-def]  # what is tried
def _any(event: Any) -> None: ...
def _text(event: str) -> None: ...
def _echo(event: Echo) -> None: ...
def _unknown(event: "Nothing") -> None: ...  # type: ignore[name-defined]  # noqa: F821, UP037
async def _coroutine(event: Note) -> None: ...


def _declare(bench: Bench, function: Callable[..., Any], *classes: type[Event], **more: Any) -> Any:
    return on(*(classes or (Note,)), name="declared", broker=bench.broker, **more)(function)


@pytest.mark.parametrize("function", [_one, _union, _base, _untyped, _any, _unknown, _coroutine])
def test_signatures_that_fit(bench: Bench, function: Callable[..., Any]) -> None:
    assert _declare(bench, function).actor_name == "declared"


@pytest.mark.parametrize("function", [_list, _sequence, _iterable, _bare_list, _untyped, _any])
def test_signatures_that_fit_a_batch(bench: Bench, function: Callable[..., Any]) -> None:
    assert _declare(bench, function, batch=5).actor_name == "declared"


@pytest.mark.parametrize(
    ("function", "options", "says"),
    [
        (_text, {}, r"is declared for Note, but its argument 'event' is annotated str"),
        (_echo, {}, r"is declared for Note.*annotated Echo.*Annotate it with Note"),
        (_list, {}, r"is declared for Note.*annotated list"),
        (_one, {"batch": 5}, r"annotated Note.*Annotate it with list\[Note\]"),
        (_echo, {"batch": 5}, r"Annotate it with list\[Note\]"),
        (_one, {"linger_ms": 5}, r"linger_ms=5 is for batches; give batch="),
        (_list, {"batch": 5, "linger_ms": -1}, r"linger_ms is -1; use an int from 0 to"),
        (_list, {"batch": 0}, r"batch is 0; use an int from 1 to 10,000"),
        (_list, {"batch": True}, r"batch is True; use an int"),
        (_one, {"valid_for_ms": 0}, r"valid_for_ms is 0; use an int of 1 or more"),
        (_one, {"valid_for_ms": 1.5}, r"valid_for_ms is 1.5; use an int"),
        (_one, {"ordered": "yes"}, r"ordered is 'yes'; use True or False"),
        (_one, {"conflate": 1}, r"conflate is 1; use True or False"),
        (_one, {"transform": "x"}, r"transform is 'x', which cannot be called"),
        (_one, {"transform": _coroutine}, r"transform must not be `async`"),
    ],
)
def test_what_does_not_fit_is_named(
    bench: Bench, function: Callable[..., Any], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(HandlerDefinitionError, match=f"Handler 'declared'.*{says}"):
        _declare(bench, function, **options)
    assert bench.broker.subscriptions == {}  # nothing was left behind


@pytest.mark.parametrize("option", ["ordered", "conflate"])
def test_order_needs_partitions(bench: Bench, option: str) -> None:
    with pytest.raises(
        HandlerDefinitionError, match=f"{option}=True needs a partitioned log.*Urgent"
    ):
        _declare(bench, _any, Spread, Urgent, **{option: True})


@pytest.mark.parametrize("cls", [OrderEvent, FillEvent])
def test_orders_and_fills_are_not_skipped(bench: Bench, cls: type[Event]) -> None:
    with pytest.raises(HandlerDefinitionError, match=f"{cls.__name__} is an order or a fill"):
        _declare(bench, _any, MarketDataEvent, cls, conflate=True)


def test_a_type_is_named_once(bench: Bench) -> None:
    with pytest.raises(HandlerDefinitionError, match="@on names Note twice"):
        _declare(bench, _any, Note, Echo, Note)


def test_no_time_limit(open_bench: Callable[..., Bench]) -> None:
    bench = open_bench(event_bus={"handler_timeout": None})
    assert on(Note, name="a", broker=bench.broker)(_one).options["time_limit"] == math.inf
    own = on(Note, name="b", broker=bench.broker, time_limit=None)(_one)
    assert own.options["time_limit"] == math.inf
