"""How fast a run was. The clocks are the server's (appended) and the workers' (settled)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from streamatiq.broker.histogram import percentile_us

from .pipeline.subscriptions import SUBSCRIPTIONS
from .run import Run

__all__ = ["FIGURES", "figures", "save", "table"]

#: Environment variable with a JSON file to which the figures of each run are added.
FIGURES = "E2E_FIGURES"


def figures(run: Run) -> dict[str, Any]:
    """The figures of a run, ready for JSON; names end in their units."""
    evidence = run.evidence
    first_us, last_us = evidence.appended_us
    last_settle_us = max(totals.last_ms for totals in evidence.audit.values()) * 1000
    handled = sum(totals.outcomes.total() for totals in evidence.audit.values())
    venue_orders = sum("execution" not in line for line in evidence.venue_book)
    return {
        "speed": run.plan.speed,
        "cores": os.cpu_count(),
        "rows": len(evidence.ticks),
        "signals": len(evidence.signals),
        "orders": venue_orders,
        "order_events": len(evidence.orders),
        "fills": len(evidence.fills),
        "handled": handled,
        "ingest_rows_per_s": round(len(evidence.ticks) / max(last_us - first_us, 1) * 1e6),
        "handled_per_s": round(handled / max(last_settle_us - first_us, 1) * 1e6),
        "ingest_process_s": round(run.ingest_s, 2),
        "wall_s": round(run.wall_s, 2),
        "subscriptions": {name: _subscription(run, name) for name in SUBSCRIPTIONS},
    }


def _subscription(run: Run, name: str) -> dict[str, Any]:
    totals = run.evidence.audit[name]
    return {
        "handled": totals.outcomes.total(),
        "by_process": sorted(len(ids) for ids in run.evidence.handled[name].values()),
        "settled_batches": totals.records,
        "p50_ms": _ms(percentile_us(totals.latency, 50)),
        "p99_ms": _ms(percentile_us(totals.latency, 99)),
    }


def _ms(us: float | None) -> float | None:
    return None if us is None else round(us / 1000, 2)


def table(name: str, what: dict[str, Any]) -> str:
    """The figures for a reader."""
    lines = [
        "",
        f"{name}: {what['rows']:,} rows, {what['orders']:,} orders, {what['fills']:,} fills, "
        f"{what['handled']:,} events handled on {what['cores']} cores",
        f"  ingest {what['ingest_rows_per_s']:,} rows/s, pipeline {what['handled_per_s']:,} "
        f"events/s, {what['wall_s']} s in all (speed {what['speed']})",
        f"  {'subscription':20} {'handled':>9} {'p50 ms':>10} {'p99 ms':>10}  batches  by process",
    ]
    lines += [
        f"  {subscription:20} {of['handled']:9,} {of['p50_ms']:10,} {of['p99_ms']:10,} "
        f"{of['settled_batches']:8,}  {' + '.join(f'{one:,}' for one in of['by_process'])}"
        for subscription, of in what["subscriptions"].items()
    ]
    return "\n".join([*lines, ""])


def save(name: str, what: dict[str, Any]) -> None:
    """Adds the figures to the file that the environment names, if it does."""
    target = os.environ.get(FIGURES)
    if target is not None:
        path = Path(target)
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(known | {name: what}, indent=2) + "\n")
