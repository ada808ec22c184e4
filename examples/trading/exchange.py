"""A simulated exchange: the other side of the wire, with a book of its own.

It knows an order by its client order id: sent again, it is answered as before and not filled again.
For trials it can be told to misbehave the next times that an order comes:

    down   refuse it, as an exchange does that cannot be reached
    slow   take `seconds` for it
    rest   put it into the book and fill nothing, so that it can be cancelled
    die    take it, and kill the worker process before it hears the answer: the worst moment

Only this module plays tricks. `venue.py` talks to it as it would to a real one.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal
from zlib import crc32

from streamatiq import OrderEvent

from .folder import database

__all__ = ["Answer", "Exchange", "ExchangeDown", "Execution", "Fault"]

Fault = Literal["down", "slow", "rest", "die"]

FILE = "exchange.sqlite"
_TABLES = """
CREATE TABLE IF NOT EXISTS orders (
    client_order_id TEXT PRIMARY KEY, state TEXT, quantity TEXT, sent INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS executions (
    exec_id TEXT PRIMARY KEY, client_order_id TEXT, quantity TEXT, price TEXT) STRICT;
CREATE TABLE IF NOT EXISTS faults (kind TEXT PRIMARY KEY, times INTEGER, seconds REAL) STRICT;
"""


class ExchangeDown(Exception):
    """The exchange did not take the order."""


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a part of an order."""

    exec_id: str
    quantity: Decimal
    price: Decimal


@dataclass(frozen=True, slots=True)
class Answer:
    """How the exchange has an order.

    Parameters:
      state: `working`, `filled` or `canceled`.
      executions: All so far, in order.
    """

    state: str
    executions: tuple[Execution, ...]


class Exchange:
    """The exchange whose book is in `data_folder()`. Threads and processes may use it at once."""

    def submit(self, order: OrderEvent) -> Answer:
        """Takes a limit order, and fills it at its price in one part or two.

        Raises:
          ExchangeDown: It does not take it now.
        """
        slow = self._fault("slow")
        if slow is not None:
            time.sleep(slow)
        if self._fault("down") is not None:
            raise ExchangeDown(f"order {order.client_order_id} was not taken")
        rests = self._fault("rest") is not None
        with self._transaction() as db:
            known = _answer(db, order.client_order_id)
            if known is None:
                _take(db, order, rests)
            else:
                db.execute(
                    "UPDATE orders SET sent = sent + 1 WHERE client_order_id = ?",
                    (order.client_order_id,),
                )
            answer = known or _answer(db, order.client_order_id)
        assert answer is not None
        if self._fault("die") is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    def cancel(self, client_order_id: str) -> Answer:
        """Takes an order out of the book. One that has not come yet will not be taken; one that is
        filled stays so."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO orders VALUES (?, 'canceled', '0', 0) ON CONFLICT DO UPDATE "
                "SET state = 'canceled' WHERE state = 'working'",
                (client_order_id,),
            )
            answer = _answer(db, client_order_id)
        assert answer is not None
        return answer

    def find(self, client_order_id: str) -> Answer | None:
        """How it has an order; None if none of this id has come."""
        with self._transaction() as db:
            return _answer(db, client_order_id)

    def misbehave(self, kind: Fault, times: int, seconds: float = 0.0) -> None:
        """Has the next `times` orders met by a fault."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO faults VALUES (?, ?, ?)", (kind, times, seconds))

    def rows(self, query: str) -> list[tuple[str, ...]]:
        """Reads, for reports and tests."""
        with self._transaction() as db:
            return db.execute(query).fetchall()

    def _fault(self, kind: Fault) -> float | None:
        """Uses a fault up. Its seconds; None if there is none."""
        with self._transaction() as db:
            row = db.execute(
                "UPDATE faults SET times = times - 1 WHERE kind = ? AND times > 0 "
                "RETURNING seconds",
                (kind,),
            ).fetchone()
        return None if row is None else float(row[0])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with database(FILE, _TABLES) as db:
            yield db


def _take(db: sqlite3.Connection, order: OrderEvent, rests: bool) -> None:
    identity, quantity = order.client_order_id, order.quantity
    db.execute(
        "INSERT INTO orders VALUES (?, ?, ?, 1)",
        (identity, "working" if rests else "filled", str(quantity)),
    )
    if rests:
        return
    half = quantity / 2
    parts = [half, quantity - half] if crc32(identity.encode()) % 2 else [quantity]
    db.executemany(
        "INSERT INTO executions VALUES (?, ?, ?, ?)",
        [
            (f"{identity}/{number}", identity, str(part), str(order.limit_price))
            for number, part in enumerate(parts, 1)
        ],
    )


def _answer(db: sqlite3.Connection, client_order_id: str) -> Answer | None:
    order = db.execute(
        "SELECT state FROM orders WHERE client_order_id = ?", (client_order_id,)
    ).fetchone()
    if order is None:
        return None
    executions = db.execute(
        "SELECT exec_id, quantity, price FROM executions WHERE client_order_id = ? ORDER BY rowid",
        (client_order_id,),
    )
    return Answer(
        order[0],
        tuple(Execution(name, Decimal(size), Decimal(price)) for name, size, price in executions),
    )
