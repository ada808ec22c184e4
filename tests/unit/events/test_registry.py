"""The registry: one class a type name, reload allowed, clash and unknown names explained."""

from __future__ import annotations

import pytest

from streamatiq.errors import EventDefinitionError, UnknownEventType
from streamatiq.events import (
    Event,
    EventType,
    FillEvent,
    MarketDataEvent,
    OrderEvent,
    SignalEvent,
    event_class,
    registered_types,
)


def declare() -> type[Event]:
    class Tick(Event, type="tick"):
        pass

    return Tick


def test_the_four_of_the_seed() -> None:
    assert set(EventType) <= set(registered_types())
    assert [event_class(name) for name in EventType] == [
        MarketDataEvent,
        SignalEvent,
        OrderEvent,
        FillEvent,
    ]


def test_names_are_sorted_and_plain_text() -> None:
    declare()
    names = registered_types()
    assert "tick" in names
    assert list(names) == sorted(names)
    assert type(MarketDataEvent.event_type) is str


def test_the_same_statement_again_replaces_the_class() -> None:
    first, second = declare(), declare()
    assert first is not second
    assert event_class("tick") is second


def test_a_clash_names_both_classes() -> None:
    declare()
    with pytest.raises(EventDefinitionError) as caught:

        class Tock(Event, type="tick"):
            pass

    message = str(caught.value)
    assert "'tick'" in message
    assert "declare.<locals>.Tick" in message
    assert "test_a_clash_names_both_classes.<locals>.Tock" in message
    assert event_class("tick").__name__ == "Tick"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        UnknownEventType, match=r"'nope'.*: .*fill, market_data, order,.* signal.*Import"
    ):
        event_class("nope")
