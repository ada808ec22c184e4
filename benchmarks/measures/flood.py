"""Flood: orders and their fills, while market data is published as fast as the machine takes it.

One worker process handles all three. Orders come one by one at a fixed rate from a producer of
their own; another one publishes market data in calls of 100 and waits where the backlog is full. An
order's latency runs from just before its publishing to its handler, a fill's from the handler of
its order, which emits it, to its own: so it contains a settle. Budget: p99 of both below 20 ms
where market data has a lower priority.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..apps.base import FLOODS
from ..ledger import Ledger
from ..load import percentile
from ..results import Sample
from ..sending import WARM_UP
from ..stage import Bench, Stage
from ..systems import System
from .base import Values

__all__ = ["FILLS", "TICKS", "Flood", "flooded"]

#: Numbers of the first fill, and of the first tick; as the app has them.
FILLS, TICKS = 20_000, 40_000

#: Orders a second.
_RATE_PER_S = 100.0

#: Market data a second that the ledger has cells for, and the seconds beside the measured ones.
_TICKS_PER_S, _MORE_S = 60_000, 8.0

#: Market data to be handled before the first order, so that all are at work.
_FLOWING = 2_000

#: Seconds of orders that are not counted.
_LEAD_IN_S = 1.0


@dataclass(frozen=True, slots=True)
class Flood:
    """Orders for some seconds.

    Args:
        variant: how market data is handled, as the app says; empty: there is none.
        seconds: how long orders are counted.
    """

    variant: str
    seconds: float
    name = "flood"
    needs = frozenset({FLOODS})
    once = False

    @property
    def case(self) -> str:
        return self.variant or "no market data"

    def measure(self, bench: Bench, system: System, round_: int) -> Sample:
        lead_in = round(_RATE_PER_S * _LEAD_IN_S)
        paced = lead_in + max(1, round(_RATE_PER_S * self.seconds))
        orders = WARM_UP + paced
        if orders > FILLS:
            raise ValueError(f"{orders} orders are more than have cells; measure shorter")
        capacity = TICKS + round(_TICKS_PER_S * (self.seconds + _LEAD_IN_S + _MORE_S))
        with bench.stage(system, capacity, variant=self.variant) as stage:
            stage.prepare()
            with stage.start_workers(1) as workers:
                stage.warm_up(workers)
                stage.wait(workers, lambda: _handled(stage.ledger, WARM_UP) == 2 * WARM_UP)
                if self.variant:
                    with stage.load("flood", TICKS, capacity - TICKS) as market:
                        flowing = TICKS + _FLOWING
                        stage.wait(workers, lambda: 0 not in stage.ledger.sent[TICKS:flowing])
                        self._send_orders(stage, paced)
                        market.check()
                else:
                    self._send_orders(stage, paced)
                stage.wait(workers, lambda: _handled(stage.ledger, orders) == 2 * orders)
            return Sample(
                round=round_,
                system=system.name,
                measure=self.name,
                case=self.case,
                values=flooded(stage.ledger, range(WARM_UP + lead_in, orders)),
                sent=2 * orders,
                handled=_handled(stage.ledger, orders),
                duplicates=stage.ledger.duplicate_count(0, TICKS),
            )

    def _send_orders(self, stage: Stage, paced: int) -> None:
        with stage.load("paced", WARM_UP, paced, _RATE_PER_S) as producer:
            producer.result()


def _handled(ledger: Ledger, orders: int) -> int:
    """Count the orders and fills that were handled."""
    return ledger.handled_count(0, orders) + ledger.handled_count(FILLS, FILLS + orders)


def flooded(ledger: Ledger, orders: range) -> Values:
    """Return the figures of a ledger in which `orders` and their fills have been handled."""
    handled, sent = ledger.handled, ledger.sent
    begin_ns, end_ns = sent[orders[0]], handled[orders[-1]]
    seconds = (end_ns - begin_ns) / 1e9
    values: Values = {}
    latencies: dict[str, Iterable[float]] = {
        "order": ((handled[n] - sent[n]) / 1e6 for n in orders),
        "fill": ((handled[FILLS + n] - handled[n]) / 1e6 for n in orders),
    }
    for what, found in latencies.items():
        ascending = sorted(found)
        values[f"{what}_p50_ms"] = percentile(ascending, 0.5)
        values[f"{what}_p99_ms"] = percentile(ascending, 0.99)
        values[f"{what}_max_ms"] = ascending[-1]
    for name, moments in (("ticks_per_s", handled), ("ticks_published_per_s", sent)):
        counted = sum(1 for moment in moments[TICKS:] if begin_ns < moment <= end_ns)
        values[name] = counted / seconds
    return values
