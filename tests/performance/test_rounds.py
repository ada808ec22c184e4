"""The plan takes each measure as often as it is meant to be, of the systems that can run it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from benchmarks.measures import Measure
from benchmarks.metrics import METRICS
from benchmarks.results import Sample
from benchmarks.rounds import FULL, MEASURES, QUICK, Plan, run_plan
from benchmarks.systems import SYSTEMS, System


@dataclass
class Case:
    """A measure that measures nothing, and gives up on some systems."""

    name: str = "recovery"
    case: str = "x"
    needs: frozenset[str] = frozenset()
    once: bool = False
    hopeless: frozenset[str] = field(default_factory=frozenset)

    def measure(self, bench: Any, system: System, round_: int) -> Sample:
        at_least = ["recovery_s"] if system.name in self.hopeless else []
        values: dict[str, float | None] = {"recovery_s": 1.0}
        return Sample(round_, system.name, self.name, self.case, values, at_least=at_least)


class OneCase(Plan):
    """A plan of two systems and three rounds with one case."""

    def cases(self) -> list[Measure]:
        return [self.measures[0]]  # type: ignore[list-item]


class StubBench:
    """Systems that only say what they can do: the floor delays nothing, the other one does."""

    @property
    def server(self) -> StubBench:
        return self

    def describe(self) -> dict[str, Any]:
        return {}

    @contextmanager
    def stage(self, system: System) -> Iterator[StubBench]:
        self.system = system
        yield self

    def prepare(self) -> dict[str, Any]:
        return {"abilities": ["delays"] if self.system.name == "redisbroker" else []}


def taken(case: Case) -> list[tuple[int, str]]:
    systems = (SYSTEMS["floor"], SYSTEMS["redisbroker"])
    plan = OneCase(systems, (case,))  # type: ignore[arg-type]
    run = run_plan(plan, StubBench(), lambda line: None)  # type: ignore[arg-type]
    return sorted((sample.round, sample.system) for sample in run.samples)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (Case(), [(n, s) for n in range(3) for s in ("floor", "redisbroker")]),
        (Case(once=True), [(0, "floor"), (0, "redisbroker")]),
        (Case(needs=frozenset({"delays"})), [(n, "redisbroker") for n in range(3)]),
        (
            Case(hopeless=frozenset({"redisbroker"})),
            [(0, "floor"), (0, "redisbroker"), (1, "floor"), (2, "floor")],
        ),
    ],
    ids=["every round", "once", "needs an ability", "gave up"],
)
def test_who_is_measured_how_often(case: Case, expected: list[tuple[int, str]]) -> None:
    assert taken(case) == expected


def test_a_system_for_some_measures_is_left_out_of_the_others() -> None:
    systems = (SYSTEMS["redisbroker"], SYSTEMS["streamatiq-mixed"])
    found = []
    for name in ("flood", "recovery"):
        plan = OneCase(systems, (Case(name=name),), rounds=1)  # type: ignore[arg-type]
        run = run_plan(plan, StubBench(), lambda line: None)  # type: ignore[arg-type]
        found.append([sample.system for sample in run.samples])

    assert found == [["redisbroker", "streamatiq-mixed"], ["redisbroker"]]
    assert all(system.measures <= {*MEASURES} for system in SYSTEMS.values())


@pytest.mark.parametrize("sizes", [FULL, QUICK], ids=["full", "quick"])
def test_every_measure_has_cases_with_names_of_their_own_and_figures(sizes: Any) -> None:
    cases = Plan(tuple(SYSTEMS.values()), sizes=sizes).cases()

    assert {case.name for case in cases} == set(MEASURES) == METRICS.keys()
    assert len({(case.name, case.case) for case in cases}) == len(cases)
