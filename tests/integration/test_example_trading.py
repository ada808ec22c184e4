"""examples/trading as a newcomer finds it: its tests pass, and a whole run with real processes, of
which the exchange kills one, agrees with all of its ledgers."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.support import Child

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_its_own_tests_pass() -> None:
    options = ["-q", "-p", "no:cacheprovider", "trading"]
    with Child([sys.executable, "-m", "pytest", *options], cwd=EXAMPLES) as child:
        ended = child.wait(28)
        assert ended.returncode == 0, child
        assert re.search(r"^1\d passed in ", ended.stdout, re.MULTILINE), child


def test_a_run_with_real_processes_and_a_killed_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trading", "--seconds", "2.5", "--folder", str(tmp_path)]
    with Child(command, cwd=EXAMPLES) as child:
        ended = child.wait(28)
    assert ended.returncode == 0, f"{child}\n{_text(tmp_path / 'workers.log')}"
    assert "All of it agrees." in ended.stdout
    figures = dict(re.findall(r"^  (\S.*?)\s{2,}([\d,]+)$", ended.stdout, re.MULTILINE))
    assert int(figures["orders"]) > 10
    assert (figures["alerts: gap"], figures["alerts: late"], figures["alerts: stale"]) == (
        ("1",) * 3
    )
    # What the run says of itself, looked at by other means.
    assert _text(tmp_path / "workers.log").count(" has died; ") == 1
    assert _text(tmp_path / "workers.log").count("trading.exchange.ExchangeDown: order") >= 1
    filled = _sums(_rows(tmp_path / "exchange.sqlite", "client_order_id, quantity", "executions"))
    orders = _rows(tmp_path / "exchange.sqlite", "client_order_id, quantity, sent", "orders")
    assert {name: Decimal(quantity) for name, quantity, _ in orders} == filled
    # The order whose worker was killed after it had been taken was asked for, not sent again.
    assert {times for *_, times in orders} == {1}
    assert _text(tmp_path / "workers.log").count("; asking.") >= 1
    booked = _sums(_rows(tmp_path / "risk.sqlite", "key, cost", "fills"))
    assert max(map(abs, booked.values())) <= 30_000
    faults = [json.loads(line)["kind"] for line in _text(tmp_path / "injected.jsonl").splitlines()]
    assert sorted(faults) == ["gap", "late", "stale"]


def _text(log: Path) -> str:
    return log.read_text("utf-8", "replace")


def _rows(file: Path, columns: str, table: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as db:
        return db.execute(f"SELECT {columns} FROM {table}").fetchall()


def _sums(rows: list[tuple[Any, ...]]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for name, amount in rows:
        sums[name] = sums.get(name, Decimal(0)) + Decimal(amount)
    return sums
