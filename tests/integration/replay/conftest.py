"""Fixtures of tests of replays."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.integration.logs.harness import Bench


@pytest.fixture
def bench(redis_url: str, namespace: str) -> Iterator[Bench]:
    """A broker on the shared server; workers of it run in this process."""
    with Bench(redis_url, namespace) as one:
        yield one


@pytest.fixture
def bench_in(redis_url: str) -> Iterator[Callable[[str], Bench]]:
    """Brokers in other namespaces: those of replays."""
    made: list[Bench] = []

    def make(namespace: str) -> Bench:
        made.append(Bench(redis_url, namespace))
        return made[-1]

    yield make
    for one in made:
        one.stop()
