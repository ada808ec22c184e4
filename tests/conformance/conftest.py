"""The twin beside a real server.

both         a connection to each, to compare what they answer
twin         a twin that all tests share; they keep apart by namespace and leave its clock alone
redis_url    here, and with it for every fixture of the broker's own tests: the twin's
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import pytest
from tests.integration.contract.conftest import (
    broker,
    gate,
    make_broker,
    quick_second_chance,
    start_worker,
)
from tests.integration.logs.conftest import bench, open_bench

from streamatiq.broker.connections import Endpoint, Link
from streamatiq.broker.embedded import EmbeddedServer
from streamatiq.testing import Twin

#: Fixtures of the broker's own tests, known here by being names of this module.
__all__ = [
    "bench",
    "broker",
    "gate",
    "make_broker",
    "open_bench",
    "quick_second_chance",
    "start_worker",
]


class Both(NamedTuple):
    """A connection to each."""

    server: Link
    twin: Link


@pytest.fixture(scope="session")
def twin() -> Iterator[Twin]:
    """The shared twin."""
    with Twin() as shared:
        yield shared


@pytest.fixture
def redis_url(twin: Twin) -> str:
    """The twin's URL, where the same tests elsewhere get the shared server's."""
    return twin.url


@pytest.fixture(scope="session")
def both(server: EmbeddedServer, twin: Twin) -> Iterator[Both]:
    """A connection to the real server and one to the twin."""
    with (
        closing(Link(Endpoint(server.url))) as real,
        closing(Link(Endpoint(twin.url))) as ours,
    ):
        yield Both(real, ours)
