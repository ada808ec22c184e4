"""The live view: rates and percentiles are of the last seconds, and it fits a narrow terminal."""

from __future__ import annotations

from collections import Counter
from io import StringIO

import pytest
from rich.console import Console

from streamatiq.broker.histogram import bucket
from streamatiq.demo.meter import Reading, SubscriptionReading
from streamatiq.demo.screen import Screen, Window, milliseconds


def reading(at_s: float, published: int, handled: int, latency: dict[int, int]) -> Reading:
    one = SubscriptionReading(Counter(done=handled), latency, unread=published - handled)
    return Reading(at_s, {"market_data": published}, {"demo.keep_position": one}, 0)


def test_rates_and_percentiles_are_of_the_last_seconds() -> None:
    slow, fast = bucket(90_000), bucket(1_000)
    window = Window(reading(0, 0, 0, {}))
    assert window.published_rate("market_data") == 0
    assert window.percentile_us("demo.keep_position", 50) is None
    window.add(reading(1, 9000, 9000, {slow: 9000}))
    assert window.published_rate("market_data") == 9000
    for second in range(2, 10):
        done = 9000 + 100 * second
        window.add(reading(second, done, done - 1, {slow: 9000, fast: 100 * second}))
    assert window.published_rate("market_data") == 100
    assert window.handled_rate("demo.keep_position") == 100
    p99 = window.percentile_us("demo.keep_position", 99)
    assert p99 == pytest.approx(1000, rel=0.09)


def test_a_terminal_shows_a_table_that_fits() -> None:
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=30, color_system=None)
    million = {bucket(123_456): 1_000_000}
    with Screen(console) as screen:
        screen.show(reading(0, 0, 0, {}), "starts")
        screen.show(reading(1, 1_234_567, 1_000_000, million), "1 of 20 s")
    shown = out.getvalue()
    assert "1 of 20 s" in shown
    assert "1,000,000" in shown
    assert "234,567" in shown
    assert "…" not in shown


def test_elsewhere_there_is_a_line_every_two_seconds() -> None:
    out = StringIO()
    with Screen(Console(file=out, width=80)) as screen:
        for tenth in range(41):
            screen.show(reading(tenth / 10, tenth, tenth, {}), f"{tenth / 10:g} s")
    assert out.getvalue().splitlines() == [
        f"{at} s: market_data {tenth}; lag 0; p99 by subscription -"
        for at, tenth in ((0, 0), (2, 20), (4, 40))
    ]


@pytest.mark.parametrize(
    ("us", "text"),
    [(None, "-"), (0.0, "0.00 ms"), (1234.0, "1.23 ms"), (12_345.0, "12 ms"), (2e6, "2,000 ms")],
)
def test_a_latency_for_people(us: float | None, text: str) -> None:
    assert milliseconds(us) == text
