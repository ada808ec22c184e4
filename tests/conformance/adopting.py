"""Takes the broker's own tests over into another module, where `redis_url` is the twin's."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

__all__ = ["adopted_from"]

#: Fixtures of what is no twin: tests that ask for one are left where they are.
NOT_HERE = {"proxy", "own_server", "server"}
#: Tests of how soon something happens: the twin shares the interpreter with the handlers.
A_MATTER_OF_SPEED = {"test_a_high_message_waits_only_for_what_runs"}


def adopted_from(*places: str) -> dict[str, Any]:
    """The tests, and the fixtures, of modules below tests/integration, by their new names."""
    found: dict[str, Any] = {}
    for place in places:
        name = f"tests.integration.{place}"
        pytest.register_assert_rewrite(name)
        for key, value in vars(import_module(name)).items():
            if key in A_MATTER_OF_SPEED:
                continue
            if key.startswith("test_"):
                inner = getattr(getattr(value, "hypothesis", None), "inner_test", value)
                if NOT_HERE.isdisjoint(inner.__code__.co_varnames):
                    found[f"{key}__{place.partition('.')[0]}"] = value
            elif type(value).__name__ == "FixtureFunctionDefinition":
                found.setdefault(key, value)
    return found
