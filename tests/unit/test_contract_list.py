"""`docs/contract.md` names tests that exist, and no line is without one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests" / "integration"


def _lines() -> list[str]:
    text = (ROOT / "docs" / "contract.md").read_text()
    return [one for one in text.splitlines() if one.startswith("| ")]


def test_every_named_test_exists() -> None:
    named = re.findall(r"`(\S+\.py)::(\w+)`", "\n".join(_lines()))
    assert len(named) > 100
    for file, test in named:
        path = TESTS / (file if "/" in file else f"contract/{file}")
        assert re.search(rf"^def {test}\(", path.read_text(), re.MULTILINE), f"{file}::{test}"


def test_every_line_names_a_test() -> None:
    for line in _lines():
        if not line.startswith(("| line", "| issue")):
            assert ".py::" in line or "guarantees.md" in line, line
