"""What the figures must reach, and whether a run did.

A budget is a limit on a figure of one system, or on its ratio to the same figure of another system,
or of another case. It is judged on medians.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["BUDGETS", "Budget", "Verdict", "judge"]

#: Measure, case, figure, system.
Figure = tuple[str, str, str, str]

_OURS = ("streamatiq", "streamatiq-on")
_GUARDED = ("streamatiq-guarded", "streamatiq-guarded-nokey")


@dataclass(frozen=True, slots=True)
class Budget:
    """One limit.

    Attributes:
        title: what is limited.
        measure, case, figure: which figure; an empty case means every case of the measure.
        systems: whose.
        limit: what it must reach, or must not exceed.
        at_least: whether more is better.
        of_system, of_case: the figure is divided by this system's, or this case's.
        aim: what it should reach, if more is hoped for.
        unit: of the limit; `x` for a ratio.
    """

    title: str
    measure: str
    case: str
    figure: str
    systems: tuple[str, ...]
    limit: float
    at_least: bool = False
    of_system: str | None = None
    of_case: str | None = None
    aim: float | None = None
    unit: str = "x"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A budget held against one system's figure.

    Attributes:
        budget, case, system: which.
        value: the figure, or the ratio.
        unknown_above: the measure gave up: the figure is at least `value`.
    """

    budget: Budget
    case: str
    system: str
    value: float
    unknown_above: bool = False

    @property
    def met(self) -> bool:
        """Whether the limit is kept."""
        if self.budget.at_least:
            return self.value >= self.budget.limit
        return self.value <= self.budget.limit and not self.unknown_above

    @property
    def words(self) -> str:
        """`met`, `met, aim too`, or by what factor (a difference, from zero) it was missed."""
        budget = self.budget
        if self.met:
            if budget.aim is not None and budget.at_least and self.value >= budget.aim:
                return "met, aim too"
            return "met"
        least = "at least " if self.unknown_above else ""
        if budget.at_least:
            return f"missed by {budget.limit / self.value:.2f} x" if self.value else "missed"
        return f"missed by {least}{self.value / budget.limit:.2f} x"


def judge(
    medians: Mapping[Figure, float], given_up: Iterable[Figure] = (), budgets: Iterable[Budget] = ()
) -> list[Verdict]:
    """Hold figures against budgets (default: `BUDGETS`); what was not measured is left out.

    Args:
        medians: the figures.
        given_up: those of them that are larger in truth.
        budgets: the limits.
    """
    unknown = set(given_up)
    verdicts = []
    for budget in budgets or BUDGETS:
        for system in budget.systems:
            for figure, value in medians.items():
                measure, case, name, owner = figure
                if (measure, name, owner) != (budget.measure, budget.figure, system):
                    continue
                if budget.case not in ("", case):
                    continue
                base: float | None = 1.0
                if budget.of_system is not None or budget.of_case is not None:
                    base = medians.get(
                        (measure, budget.of_case or case, name, budget.of_system or system)
                    )
                if base:
                    verdicts.append(Verdict(budget, case, system, value / base, figure in unknown))
    return verdicts


#: The budgets, in the order of the table.
BUDGETS = (
    Budget(
        "drain, of RedisBroker's",
        *("drain", "1 process", "rate_per_s", _OURS, 5.0),
        at_least=True,
        of_system="redisbroker",
        aim=10.0,
    ),
    Budget(
        "guarded drain, of RedisBroker's",
        *("drain", "1 process", "rate_per_s", _GUARDED, 4.0),
        at_least=True,
        of_system="redisbroker",
        aim=8.0,
    ),
    Budget(
        "drain in batches, of the floor's",
        *("drain", "1 process", "rate_per_s", ("streamatiq-batch",), 0.45),
        at_least=True,
        of_system="floor",
        aim=0.65,
    ),
    Budget(
        "drain, of 1 process",
        *("drain", "2 processes", "rate_per_s", _OURS, 1.6),
        at_least=True,
        of_case="1 process",
        aim=1.8,
    ),
    Budget(
        "one by one, of RedisBroker's",
        *("enqueue", "one by one", "rate_per_s", _OURS, 1.0),
        at_least=True,
        of_system="redisbroker",
        aim=1.5,
    ),
    Budget(
        "publish_many, of the floor's pipeline",
        *("enqueue", "in bulk", "rate_per_s", ("streamatiq-on",), 0.4),
        at_least=True,
        of_system="floor",
        aim=0.6,
    ),
    Budget("p50, of the floor's", "latency", "1,000/s", "p50_ms", _OURS, 2.5, of_system="floor"),
    Budget("p99, of the floor's", "latency", "1,000/s", "p99_ms", _OURS, 3.0, of_system="floor"),
    Budget(
        "memory of a queued event",
        *("memory", "", "bytes_per_message", ("streamatiq-on",), 450.0),
        unit="bytes",
    ),
    Budget("p99 late", "delays", "", "p99_ms", ("streamatiq",), 20.0, unit="ms"),
    Budget("time to recover", "recovery", "", "recovery_s", _OURS, 2.0, unit="s"),
    Budget(
        "order, p99",
        *("flood", "priorities", "order_p99_ms", ("streamatiq-mixed",), 20.0),
        unit="ms",
    ),
    Budget(
        "fill, p99",
        *("flood", "priorities", "fill_p99_ms", ("streamatiq-mixed",), 20.0),
        unit="ms",
    ),
    Budget(
        "worker memory, last tenth of the first",
        *("endurance", "", "worker_growth", _OURS, 1.05),
    ),
    Budget(
        "server memory kept, per message",
        *("endurance", "", "server_bytes_per_message", ("streamatiq",), 1.0),
        unit="bytes",
    ),
    Budget("commands", "idle", "1 queue", "commands_per_s", _OURS, 4.0, unit="/s"),
    Budget("commands", "idle", "3 queues", "commands_per_s", _OURS, 6.0, unit="/s"),
    Budget("p50 of a message", "idle", "", "p50_ms", _OURS, 1.0, unit="ms"),
    Budget(
        "worker memory, of that with none",
        *("many-delayed", "", "worker_growth", ("streamatiq",), 1.05),
    ),
    # A look at the due times costs a few more commands inside its script, however many there are.
    Budget(
        "idle commands, more than with none",
        *("many-delayed", "", "more_commands_per_s", ("streamatiq",), 1.0),
        unit="/s",
    ),
    Budget(
        "p50 of a normal message, of that with none",
        *("many-delayed", "", "p50_growth", ("streamatiq",), 1.5),
    ),
)
