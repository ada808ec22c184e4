"""Fixtures of the scheduler's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import FIGURE, OwnServer
from tests.integration.faults.servers import PrivateServer
from tests.integration.scheduler.fleet import SchedulerFleet
from tests.integration.scheduler.harness import Desk


@pytest.fixture
def desk(redis_url: str, namespace: str) -> Iterator[Desk]:
    """A namespace with schedules on the shared server."""
    with Desk(redis_url, namespace) as made:
        yield made


@pytest.fixture
def fleet(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[SchedulerFleet]:
    """Scheduler processes on the shared server."""
    made = SchedulerFleet(redis_url, namespace, tmp_path)
    yield made
    made.close()


@pytest.fixture
def private(own_server: OwnServer) -> PrivateServer:
    """A server of this test, to be killed and started again."""
    return PrivateServer(own_server)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Lines for the reader, shown at the end of the run."""
    lines: list[str] = []
    yield lines
    request.node.user_properties.extend((FIGURE, line) for line in lines)
