"""Fixtures of the tests of guards: brokers with workers in this process, and worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import FIGURE, OwnServer
from tests.integration.faults.servers import PrivateServer
from tests.integration.guards.guarded import Guarded
from tests.integration.logs.harness import Bench


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Lines for the reader, shown at the end of the run."""
    lines: list[str] = []
    yield lines
    request.node.user_properties.extend((FIGURE, line) for line in lines)


@pytest.fixture
def open_bench(redis_url: str, namespace: str) -> Iterator[Callable[..., Bench]]:
    """Make brokers of this test's namespace; all are stopped after the test."""
    opened: list[Bench] = []

    def open_one(url: str = redis_url, **options: Any) -> Bench:
        opened.append(Bench(url, namespace, **options))
        return opened[-1]

    yield open_one
    for one in reversed(opened):
        one.stop()


@pytest.fixture
def bench(open_bench: Callable[..., Bench]) -> Bench:
    """A broker of this test's namespace on the shared server."""
    return open_bench()


@pytest.fixture
def private(own_server: OwnServer) -> PrivateServer:
    """A server of this test, to be killed and started again."""
    return PrivateServer(own_server)


@pytest.fixture
def guarded(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Guarded]:
    """Worker processes on the shared server."""
    made = Guarded(redis_url, namespace, tmp_path)
    yield made
    made.close()


@pytest.fixture
def private_guarded(private: PrivateServer, namespace: str, tmp_path: Path) -> Iterator[Guarded]:
    """Worker processes on `private`."""
    made = Guarded(private.url, namespace, tmp_path)
    yield made
    made.close()
