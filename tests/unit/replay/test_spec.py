"""What is asked of a replay is checked before anything else."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from streamatiq import MarketDataEvent, OrderEvent
from streamatiq.broker.replay_names import checked_id, dry_namespace, replay_namespace, replay_of
from streamatiq.errors import InvalidReplay, UnknownEventType
from streamatiq.scheduler.replay.spec import ReplaySpec

AT = datetime(2024, 8, 8, 23, 54, tzinfo=UTC)


def test_types_are_sorted_and_named_once() -> None:
    spec = ReplaySpec.of([OrderEvent, "market_data", MarketDataEvent])
    assert spec.types == ("market_data", "order")
    assert spec.classes == [MarketDataEvent, OrderEvent]


def test_it_survives_json() -> None:
    for speed in ("max", 10, 0.5):
        spec = ReplaySpec.of(
            OrderEvent,
            keys=["b", "a"],
            start=AT,
            end=AT.timestamp().__int__() * 10**9 + 1,
            time_basis="event",
            speed=speed,  # type: ignore[arg-type]  # numbers and the word
            max_rate=100,
            target="isolated",
        )
        assert ReplaySpec.from_dict(spec.to_dict()) == spec
        assert spec.keys == ("a", "b")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start": AT, "end": AT}, "is not after start"),
        ({"start": AT, "end": AT.replace(year=2023)}, "is not after start"),
        ({"speed": 0}, "speed is 0"),
        ({"speed": -1.0}, "speed is -1.0"),
        ({"speed": math.nan}, "speed is nan"),
        ({"speed": math.inf}, "speed is inf"),
        ({"speed": True}, "speed is True"),
        ({"speed": "fast"}, "speed is 'fast'"),
        ({"max_rate": 0}, "max_rate is 0"),
        ({"max_rate": math.nan}, "max_rate is nan"),
        ({"start": datetime(2024, 8, 8)}, "start: datetime.*naive"),
        ({"end": datetime(2024, 8, 8)}, "end: datetime.*naive"),
        ({"start": 1.5}, "start is 1.5"),
        ({"start": -1}, "outside of 1970"),
        ({"time_basis": "wall"}, "time_basis is 'wall'"),
        ({"target": "elsewhere"}, "target is 'elsewhere'"),
        ({"target": "subscription:"}, "target is 'subscription:'"),
        ({"keys": []}, "keys is empty"),
        ({"keys": "BTC"}, "give a list"),
    ],
)
def test_bad_values_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidReplay, match=said):
        ReplaySpec.of(MarketDataEvent, **options)


def test_unknown_types() -> None:
    with pytest.raises(UnknownEventType, match=r"no\.such"):
        ReplaySpec.of("no.such")
    with pytest.raises(InvalidReplay, match="at least one"):
        ReplaySpec.of([])
    with pytest.raises(InvalidReplay, match="neither an event class"):
        ReplaySpec.of([int])  # type: ignore[list-item]  # on purpose


def test_names() -> None:
    assert replay_of(replay_namespace("prod", "a-1")) == "a-1"
    assert replay_of("prod") is None
    assert replay_of(dry_namespace("prod", "a")) is None
    for bad in ("", "a b", "a.b", "x" * 33, 7):
        with pytest.raises(InvalidReplay, match="id of a replay"):
            checked_id(bad)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(InvalidReplay, match="too long"):
        replay_namespace("n" * 60, "a")
    with pytest.raises(InvalidReplay, match="belongs to a replay"):
        replay_namespace("prod.replay.a", "b")
