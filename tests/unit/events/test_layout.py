"""Layouts of logs: partitions are counted, lanes are three."""

from __future__ import annotations

import dataclasses

import pytest

from streamatiq.errors import EventDefinitionError
from streamatiq.events import Lane, Laned, Partitioned


@pytest.mark.parametrize("count", [0, -1, 4097, True, "1", 1.0, None])
def test_a_wrong_number_of_partitions(count: object) -> None:
    with pytest.raises(EventDefinitionError) as caught:
        Partitioned(count)  # type: ignore[arg-type]  # that is the test
    assert f"Partitioned({count!r})" in str(caught.value)


def test_layouts_are_values() -> None:
    assert Partitioned() == Partitioned(1) != Partitioned(4096)
    assert Laned() == Laned() != Partitioned(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Partitioned(1).partitions = 2  # type: ignore[misc]  # that is the test


def test_lanes_in_order_of_urgency() -> None:
    assert list(Lane) == ["high", "normal", "low"]
