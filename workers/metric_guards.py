"""Halts and breakers as numbers. Every process knows the same state, so the greatest one counts."""

from __future__ import annotations

from collections import Counter

from ..broker import RedisStreamsBroker
from ..broker.guards import Guards
from .metric_files import MetricFile

__all__ = ["GuardGauges"]

#: Breakers that get a label of their own; the others are shown as `other`.
MAX_BREAKERS = 100
OTHER = "other"
#: Values of the gauge.
STATES = {"closed": 0, "half_open": 1, "open": 2}
#: Values of the label `scope`.
SCOPES = ("everything", "subscription", "key", "subscription_key")


class GuardGauges:
    """For one thread.

    Parameters:
      gauges: Of this process while it lives; the greatest of all processes is shown.
      counters: Where what only grows is counted.
    """

    def __init__(
        self, broker: RedisStreamsBroker, gauges: MetricFile, counters: MetricFile
    ) -> None:
        self._broker = broker
        self._gauges = gauges
        self._counters = counters
        self._labels: set[str] = set()
        #: Whose changes were counted, and how many.
        self._seen: tuple[Guards | None, Counter[tuple[str, str]]] = (None, Counter())

    def look(self) -> None:
        """Takes the numbers of now."""
        guards = self._broker.guards
        if guards is None:
            return
        scopes = Counter(halt.scope.kind for halt in guards.halts())
        for scope in SCOPES:
            self._set("streamatiq_halts", "What is halted.", {"scope": scope}, scopes[scope])
        states = dict.fromkeys(self._labels, 0)
        for one in guards.breakers():
            label = self._label(one.name)
            states[label] = max(states.get(label, 0), STATES[one.state])
        text = "Breakers: 0 closed, 1 half-open, 2 open."
        for label, state in states.items():
            self._set("streamatiq_breaker_state", text, {"breaker": label}, state)
        self._count_changes(guards)

    def _count_changes(self, guards: Guards) -> None:
        now = Counter(dict(list(guards.changes.items())))
        before = self._seen[1] if self._seen[0] is guards else Counter[tuple[str, str]]()
        self._seen = (guards, now)
        for (breaker, to), more in (now - before).items():
            name = "streamatiq_breaker_changes"
            place = self._counters.cell(
                name,
                f"{name}_total",
                "Changes of breakers' states that runs in worker processes have caused.",
                {"breaker": self._label(breaker), "to": to},
            )
            self._counters.cells[place] += more

    def _label(self, breaker: str) -> str:
        if breaker not in self._labels and len(self._labels) >= MAX_BREAKERS:
            breaker = OTHER
        self._labels.add(breaker)
        return breaker

    def _set(self, name: str, text: str, labels: dict[str, str], value: float) -> None:
        place = self._gauges.cell(name, name, text, labels)
        self._gauges.cells[place] = value
