"""The payload that every system carries: one market data tick, 280 bytes of JSON.

Every tick has the same length whatever its number, so that sizes compare; prices are strings, as
decimals are on the wire.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["TICK_BYTES", "Tick", "encode", "make_tick"]

Tick = dict[str, Any]

#: Length of one encoded tick in bytes.
TICK_BYTES = 280

#: Added to a tick's number, so that all numbers have nine digits.
_BASE = 100_000_000


def make_tick(number: int) -> Tick:
    """Build tick `number` (0 or more, below 900 million); `number` is its place in the ledger."""
    return {
        "n": _BASE + number,
        "venue": "XNAS",
        "symbol": "BENCH",
        "kind": "quote",
        "bid": "101.25000000",
        "ask": "101.26000000",
        "bid_size": "1500.000000",
        "ask_size": "1200.000000",
        "ts_event": 1_750_000_000_000_000_000,
        "source": "bench",
        "conditions": "R",
        "note": _NOTE,
    }


def number_of(tick: Tick) -> int:
    """Return the number that `make_tick` was given."""
    return int(tick["n"]) - _BASE


def encode(tick: Tick) -> bytes:
    """Encode a tick as compact JSON."""
    return json.dumps(tick, separators=(",", ":")).encode()


_NOTE = ""
_NOTE = "x" * (TICK_BYTES - len(encode(make_tick(0))))
