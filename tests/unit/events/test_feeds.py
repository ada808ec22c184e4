"""What the detectors share; and the examples of docs/feeds.md run, as a reader would try them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import streamatiq
from streamatiq.events import MarketDataEvent, OrderEvent, feed_of

PAGE = Path(__file__).parents[3] / "docs" / "feeds.md"


def test_a_feed_is_one_kind_of_data_of_one_instrument(
    quote: MarketDataEvent, order: OrderEvent
) -> None:
    assert feed_of(quote) == "BINANCE-UM:BTCUSDT quote"
    assert feed_of(order) == "V:S order"


def test_the_examples_run() -> None:
    text = PAGE.read_text()
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    assert len(blocks) == 3
    names: dict[str, Any] = {"__name__": "docs_feeds"}
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], str(PAGE), "exec", dont_inherit=True), names)


def test_users_find_them_at_the_top() -> None:
    names = {"GapDetector", "StaleDetector", "LateDetector", "Lateness", "feed_of"}
    assert names <= set(streamatiq.__all__)
    assert streamatiq.errors.DetectorError.code == "detector"
