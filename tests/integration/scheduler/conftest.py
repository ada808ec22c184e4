"""Fixtures of the scheduler's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.scheduler.harness import Desk


@pytest.fixture
def desk(redis_url: str, namespace: str) -> Iterator[Desk]:
    """A namespace with schedules on the shared server."""
    with Desk(redis_url, namespace) as made:
        yield made
