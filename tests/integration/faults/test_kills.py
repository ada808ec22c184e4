"""A worker that is killed by -9 at any line of the commit path, at any script call, and at every
step around a call to a venue; another one finishes the job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic_core import from_json
from tests.integration.faults.killing import MODES, STEPS
from tests.support import start_python

ROOT = Path(__file__).parents[3]


def _run(*args: str, timeout_s: float) -> list[dict[str, Any]]:
    child = start_python("tests.integration.faults.killing", *args, cwd=ROOT)
    finished = child.wait(timeout_s)
    assert finished.returncode == 0, str(child)
    return [from_json(line) for line in finished.stdout.splitlines()]


def _check_lines(kills: list[dict[str, Any]], kind: str) -> None:
    assert kills[-1]["killed"] == 0, "the last run was not killed"
    assert all(kill["killed"] == 9 for kill in kills[:-1])
    wanted = {"sent": 1, "pending": 0, "marks": 1, "done": 1, "letters": [],
              "keys": [] if kind == "plain" else ["d"]}  # fmt: skip
    wrong = [kill for kill in kills if {name: kill[name] for name in wanted} != wanted]
    assert wrong == []


@pytest.mark.parametrize("kind", ["plain", "keyed", "calls"])
def test_killed_at_a_sample_of_lines(
    redis_url: str, namespace: str, kind: str, figures: list[str]
) -> None:
    kills = _run(kind, redis_url, namespace, "7", timeout_s=28)
    _check_lines(kills, kind)
    assert len(kills) > 10
    figures.append(f"killed at {len(kills) - 1} lines ({kind}, every 7th): one emit each")


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["plain", "keyed", "calls"])
def test_killed_at_every_line(
    redis_url: str, namespace: str, kind: str, figures: list[str]
) -> None:
    kills = _run(kind, redis_url, namespace, "1", timeout_s=900)
    _check_lines(kills, kind)
    at = {kill["at"] for kill in kills[:-1]}
    if kind == "calls":
        assert {kill["call"] for kill in kills[:-1]} >= {"enlist", "fetch", "reserve", "settle"}
    else:
        assert at >= {"StreamConsumer.ack", "StreamConsumer._settle", "Committer.submit",
                      "Committer._run", "Committer._commit", "settle", "Link.run",
                      "Link.send"}  # fmt: skip
    figures.append(f"killed at all {len(kills) - 1} lines ({kind}): one emit each")


#: How many orders the venue has in the end, events are emitted, and dead letters written, by step.
_TABLE = {
    "rerun": [(1, 1, 0), (1, 1, 0), (1, 1, 0), (2, 1, 0), (2, 1, 0), (1, 1, 0)],
    "dead_letter": [(1, 1, 0), (0, 0, 1), (0, 0, 1), (1, 0, 1), (1, 0, 1), (1, 1, 0)],
    "reconcile": [(1, 1, 0)] * 6,
    "token": [(1, 1, 0), (1, 1, 0), (1, 1, 0), (2, 1, 0), (2, 1, 0), (1, 1, 0)],
}


def test_killed_at_every_step_around_a_call_to_a_venue(
    redis_url: str, namespace: str, tmp_path: Path
) -> None:
    kills = _run("steps", redis_url, namespace, str(tmp_path), timeout_s=28)
    assert all(kill["killed"] == 9 and kill["pending"] == 0 for kill in kills)
    found = {
        mode: [
            (kill["orders"], kill["sent"], len(kill["letters"]))
            for kill in kills
            if kill["mode"] == mode
        ]
        for mode in MODES
    }
    assert found == _TABLE
    assert {cause for kill in kills for cause in kill["letters"]} == {"uncertain"}


def test_the_table_of_the_docs_is_this_one() -> None:
    text = (ROOT / "docs" / "exactly-once.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith(tuple(f"| {s} |" for s in STEPS))]
    modes = ("rerun", "dead_letter", "reconcile")
    assert rows == [
        f"| {step} | "
        + " | ".join("{} / {} / {}".format(*_TABLE[mode][at]) for mode in modes)
        + " |"
        for at, step in enumerate(STEPS)
    ]
