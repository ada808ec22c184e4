"""What risk knows: orders, fills, exposure. A file of its own (SQLite), which all workers share.

It stands for the database that a real desk has. What a handler does there may happen again, since
only what Streamatiq commits itself happens once. So each change is one transaction under a key that
makes its repetition harmless: the client order id, the execution id.

Exposure is money at order prices: bought less sold, and what is open counts in full against us.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

from streamatiq import FillEvent, OrderEvent, Side, decode, encode

from .folder import database

__all__ = ["Limits", "RiskBook"]

FILE = "risk.sqlite"
_TABLES = """
CREATE TABLE IF NOT EXISTS orders (
    client_order_id TEXT PRIMARY KEY, key TEXT, side TEXT, open TEXT, event BLOB) STRICT;
CREATE INDEX IF NOT EXISTS open_orders ON orders (key) WHERE open != '0';
CREATE TABLE IF NOT EXISTS fills (
    exec_id TEXT PRIMARY KEY, client_order_id TEXT, key TEXT, cost TEXT) STRICT;
CREATE TABLE IF NOT EXISTS positions (key TEXT PRIMARY KEY, cost TEXT) STRICT;
CREATE TABLE IF NOT EXISTS refused (client_order_id TEXT PRIMARY KEY, reason TEXT) STRICT;
CREATE TABLE IF NOT EXISTS killed (id INTEGER PRIMARY KEY CHECK (id = 1), reason TEXT) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """In money.

    Parameters:
      order: Of one order.
      position: Of one instrument, whatever of its open orders is filled.
      gross: Of all instruments together.
    """

    order: Decimal
    position: Decimal
    gross: Decimal


class RiskBook:
    """The book in `data_folder()`. Threads and processes may use it at once."""

    def reserve(self, order: OrderEvent, limits: Limits) -> OrderEvent | None:
        """Takes an order in, if the limits allow it.

        Returns:
          The order; the one that is known, if there is one of its id. None if it is refused.
        """
        assert order.limit_price is not None
        cost = order.quantity * order.limit_price
        with self._transaction() as db:
            known = db.execute(
                "SELECT event FROM orders WHERE client_order_id = ?", (order.client_order_id,)
            ).fetchone()
            if known is not None:
                stored = decode(known[0])
                assert isinstance(stored, OrderEvent)
                return stored
            reason = _refusal(db, order, cost, limits)
            if reason is not None:
                db.execute(
                    "INSERT OR REPLACE INTO refused VALUES (?, ?)", (order.client_order_id, reason)
                )
                return None
            db.execute(
                "INSERT INTO orders VALUES (?, ?, ?, ?, ?)",
                (order.client_order_id, order.key, order.side, str(cost), encode(order)),
            )
        return order

    def fill(self, fill: FillEvent) -> None:
        """Moves a fill from what is open into the position; one that is known changes nothing."""
        cost = fill.last_quantity * fill.last_price
        signed = cost if fill.side is Side.BUY else -cost
        with self._transaction() as db:
            new = db.execute(
                "INSERT OR IGNORE INTO fills VALUES (?, ?, ?, ?)",
                (fill.exec_id, fill.client_order_id, fill.key, str(signed)),
            )
            if not new.rowcount:
                return
            db.execute(
                "INSERT OR REPLACE INTO positions VALUES (?, ?)",
                (fill.key, str(_position(db, fill.key) + signed)),
            )
            row = db.execute(
                "SELECT open FROM orders WHERE client_order_id = ?", (fill.client_order_id,)
            ).fetchone()
            if row is not None:
                _set_open(db, fill.client_order_id, max(Decimal(row[0]) - cost, Decimal(0)))

    def end(self, order: OrderEvent) -> None:
        """Frees what an order reserves that was cancelled, say, except for fills that are still on
        their way here: fills and snapshots of an order come by two logs, in any order."""
        assert order.limit_price is not None
        with self._transaction() as db:
            booked = db.execute(
                "SELECT cost FROM fills WHERE client_order_id = ?", (order.client_order_id,)
            )
            left = order.cum_quantity * order.limit_price
            left -= sum(abs(Decimal(row[0])) for row in booked)
            _set_open(db, order.client_order_id, max(left, Decimal(0)))

    def kill(self, reason: str) -> None:
        """Refuses every new order from now on, until the row is deleted by a person."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO killed VALUES (1, ?)", (reason,))

    def open_orders(self) -> list[OrderEvent]:
        """The orders that reserve something."""
        with self._transaction() as db:
            rows = db.execute("SELECT event FROM orders WHERE open != '0'").fetchall()
        orders = [decode(row[0]) for row in rows]
        return [order for order in orders if isinstance(order, OrderEvent)]

    def rows(self, query: str) -> list[tuple[str, ...]]:
        """Reads, for reports and tests."""
        with self._transaction() as db:
            return db.execute(query).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with database(FILE, _TABLES) as db:
            yield db


def _refusal(
    db: sqlite3.Connection, order: OrderEvent, cost: Decimal, limits: Limits
) -> str | None:
    """Why an order may not be sent; None if it may."""
    killed = db.execute("SELECT reason FROM killed").fetchone()
    if killed is not None:
        return f"kill switch: {killed[0]}"
    if cost > limits.order:
        return f"the order costs {cost}, more than {limits.order}"
    open_costs = db.execute(
        "SELECT open FROM orders WHERE open != '0' AND key = ? AND side = ?",
        (order.key, order.side),
    )
    same_side = sum((Decimal(row[0]) for row in open_costs), cost)
    sign = 1 if order.side is Side.BUY else -1
    worst = abs(_position(db, order.key) + sign * same_side)
    if worst > limits.position:
        return f"the position might become {worst}, more than {limits.position}"
    held = db.execute(
        "SELECT cost FROM positions UNION ALL SELECT open FROM orders WHERE open != '0'"
    )
    gross = sum((abs(Decimal(row[0])) for row in held), cost)
    if gross > limits.gross:
        return f"all positions might become {gross}, more than {limits.gross}"
    return None


def _position(db: sqlite3.Connection, key: str) -> Decimal:
    row = db.execute("SELECT cost FROM positions WHERE key = ?", (key,)).fetchone()
    return Decimal(0) if row is None else Decimal(row[0])


def _set_open(db: sqlite3.Connection, client_order_id: str, cost: Decimal) -> None:
    db.execute(
        "UPDATE orders SET open = ? WHERE client_order_id = ?",
        (str(cost) if cost else "0", client_order_id),
    )
