"""Signals."""

from __future__ import annotations

from typing import Any

import pytest

from streamatiq.errors import InvalidEvent
from streamatiq.events import Direction, SignalEvent


def test_a_signal(signal: SignalEvent) -> None:
    assert signal.direction is Direction.LONG
    assert (signal.quantity, signal.reason, signal.features) == (None, None, None)


@pytest.mark.parametrize("strength", [0, 1, "0.999", "1.000", None])
def test_strengths(strength: object) -> None:
    made = SignalEvent(ts_event=1, key="V:S", strategy="s", direction="flat", strength=strength)
    assert str(made.strength) == str(strength)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ({"strength": "1.001"}, r"field 'strength': .*0 to 1, got Decimal\('1.001'\)"),
        ({"strength": "-0.1"}, "field 'strength'.*got '-0.1'"),
        ({"strength": 0.5}, r"field 'strength'.*got 0.5 \(float\)"),
        ({"strategy": ""}, "field 'strategy'.*got ''"),
        ({"direction": "up"}, "field 'direction'.*got 'up'"),
        ({"quantity": 0}, "field 'quantity'.*above 0.*got 0"),
        ({"features": {"a": 0.5}}, r"field 'features.a'.*got 0.5 \(float\)"),
    ],
)
def test_refused_values(bad: dict[str, Any], complaint: str) -> None:
    fields = {"ts_event": 1, "key": "V:S", "strategy": "s", "direction": "long"}
    with pytest.raises(InvalidEvent, match=complaint):
        SignalEvent(**fields | bad)
