"""A pytest plugin: `pytest_plugins = ["streamatiq.testing.plugin"]` in the top conftest.py, or
`-p streamatiq.testing.plugin`.

    test_broker     a `TestBroker` with the handlers of the global broker; Dramatiq's global broker
                    while the test runs
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import TestBroker

__all__ = ["test_broker"]


@pytest.fixture
def test_broker() -> Iterator[TestBroker]:
    """The handlers that were imported so far, on a twin of this test's own."""
    with TestBroker.adopt() as broker:
        yield broker
