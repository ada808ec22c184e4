"""Wrong settings of which we can guess what was meant."""

from __future__ import annotations

import pytest

from streamatiq.errors import InvalidSettings
from streamatiq.settings import Settings


@pytest.mark.parametrize(
    ("bus", "expected"),
    [
        ({"dead_letter_ttl": "7d"}, "must be a number of seconds, as in 3600, got '7d'"),
        ({"handler_timeout": "5s"}, "must be a number of seconds, as in 3600, got '5s'"),
        ({"shed": "market_data"}, "must be a valid list, got 'market_data'; write [market_data]"),
        ({"shed": ""}, "must be a valid list, got ''"),
    ],
)
def test_the_message_says_what_to_write(bus: dict[str, object], expected: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        Settings(event_bus=bus)
    (problem,) = caught.value.problems
    assert problem == f"Settings: event_bus.{next(iter(bus))} {expected}"
