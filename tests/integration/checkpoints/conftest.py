"""Fixtures of the tests of checkpoints and retention: brokers with workers in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.integration.logs.harness import Bench


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
