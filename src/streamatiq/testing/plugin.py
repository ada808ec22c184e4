"""A pytest plugin: `pytest_plugins = ["streamatiq.testing.plugin"]` in the top conftest.py, or
`-p streamatiq.testing.plugin`.

    streamatiq_broker   a `TestBroker` with the handlers that were imported so far; it is Dramatiq's
                        global broker while the test runs
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import TestBroker

__all__ = ["streamatiq_broker"]


@pytest.fixture
def streamatiq_broker() -> Iterator[TestBroker]:
    """The handlers of the global broker on a twin of this test's own."""
    with TestBroker.adopt() as broker:
        yield broker
