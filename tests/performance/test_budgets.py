"""A budget is held against the right figure, and says by how much it was missed."""

import pytest
from benchmarks.budgets import BUDGETS, Budget, Verdict, judge
from benchmarks.metrics import METRICS
from benchmarks.rounds import FULL, Plan
from benchmarks.systems import SYSTEMS

RATE = Budget("t", "drain", "1 process", "rate_per_s", ("s",), 5.0, True, of_system="r", aim=10.0)
LATE = Budget("t", "delays", "", "p99_ms", ("s",), 20.0, unit="ms")


def verdict(budget: Budget, value: float, *, unknown: bool = False) -> Verdict:
    return Verdict(budget, "c", "s", value, unknown)


@pytest.mark.parametrize(
    ("budget", "value", "words"),
    [
        (RATE, 5.0, "met"),
        (RATE, 10.0, "met, aim too"),
        (RATE, 4.0, "missed by 1.25 x"),
        (RATE, 0.0, "missed"),
        (LATE, 20.0, "met"),
        (LATE, 50.0, "missed by 2.50 x"),
    ],
)
def test_a_verdict_says_what_was_missed_and_by_how_much(
    budget: Budget, value: float, words: str
) -> None:
    assert verdict(budget, value).words == words
    assert verdict(budget, value).met is words.startswith("met")


def test_what_was_given_up_below_the_limit_is_not_met() -> None:
    found = verdict(LATE, 10.0, unknown=True)

    assert not found.met
    assert verdict(LATE, 40.0, unknown=True).words == "missed by at least 2.00 x"
    assert found.words.startswith("missed")


def test_figures_are_divided_by_another_system_or_by_another_case() -> None:
    medians = {
        ("drain", "1 process", "rate_per_s", "s"): 600.0,
        ("drain", "1 process", "rate_per_s", "r"): 100.0,
        ("drain", "2 processes", "rate_per_s", "s"): 900.0,
    }
    twice = Budget(
        "t", "drain", "2 processes", "rate_per_s", ("s",), 1.6, True, of_case="1 process"
    )

    assert [v.value for v in judge(medians, budgets=[RATE, twice])] == [6.0, 1.5]


def test_an_empty_case_means_every_case_and_what_was_not_measured_is_left_out() -> None:
    medians = {
        ("delays", "1 process", "p99_ms", "s"): 5.0,
        ("delays", "2 processes", "p99_ms", "s"): 50.0,
        ("delays", "2 processes", "p99_ms", "other"): 900.0,
    }
    given_up = [("delays", "2 processes", "p99_ms", "s")]

    found = judge(medians, given_up, [RATE, LATE])
    assert [(v.case, v.met, v.unknown_above) for v in found] == [
        ("1 process", True, False),
        ("2 processes", False, True),
    ]


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda b: f"{b.measure} {b.title} {b.case}")
def test_every_budget_names_a_figure_that_is_measured(budget: Budget) -> None:
    cases = {(case.name, case.case) for case in Plan(tuple(SYSTEMS.values()), sizes=FULL).cases()}

    assert any(budget.measure == name and budget.case in ("", case) for name, case in cases)
    assert budget.of_case is None or (budget.measure, budget.of_case) in cases
    assert budget.figure in {metric.key for metric in METRICS[budget.measure]}
    assert {*budget.systems, budget.of_system or "floor"} <= SYSTEMS.keys()


def test_guarded_and_batch_handlers_and_orders_under_a_flood_have_budgets() -> None:
    rates = {"redisbroker": 2_000.0, "floor": 80_000.0, "streamatiq-batch": 36_000.0}
    rates |= {"streamatiq-guarded": 7_800.0, "streamatiq-guarded-nokey": 16_000.0}
    medians = {("drain", "1 process", "rate_per_s", name): rate for name, rate in rates.items()}
    for what, p99_ms in (("order", 19.0), ("fill", 21.0)):
        medians["flood", "priorities", f"{what}_p99_ms", "streamatiq-mixed"] = p99_ms
        medians["flood", "equal priorities", f"{what}_p99_ms", "streamatiq-mixed"] = 900.0

    found = {(v.system, v.budget.figure): v.words for v in judge(medians)}
    assert found == {
        ("streamatiq-guarded", "rate_per_s"): "missed by 1.03 x",
        ("streamatiq-guarded-nokey", "rate_per_s"): "met, aim too",
        ("streamatiq-batch", "rate_per_s"): "met",
        ("streamatiq-mixed", "order_p99_ms"): "met",
        ("streamatiq-mixed", "fill_p99_ms"): "missed by 1.05 x",
    }
