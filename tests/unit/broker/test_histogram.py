"""Percentiles of added-up histograms, against the values themselves."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamatiq.broker.histogram import NEGATIVE, add_up, bucket, percentile_us

LATENCIES = st.lists(st.floats(1, 1e10), min_size=1, max_size=200)


@given(LATENCIES, st.lists(st.integers(0, 200), max_size=4), st.floats(0.1, 100))
def test_a_percentile_is_right_within_nine_percent(
    latencies: list[float], cuts: list[int], percent: float
) -> None:
    # Counted in several records, added up later.
    edges = [0, *sorted(cuts), len(latencies)]
    records = [Counter(map(bucket, latencies[first:last])) for first, last in pairwise(edges)]
    total = add_up(records)
    assert sum(total.values()) == len(latencies)
    rank = max(1, math.ceil(percent / 100 * len(latencies) - 1e-9))
    exact = sorted(latencies)[rank - 1]
    found = percentile_us(total, percent)
    assert found is not None
    assert abs(found - exact) <= 0.09 * exact


@given(st.floats(1, 1e12))
def test_a_bucket_holds_its_latency(latency_us: float) -> None:
    at = bucket(latency_us)
    assert 2 ** (at / 8) <= latency_us * (1 + 1e-9)
    assert latency_us <= 2 ** ((at + 1) / 8) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("latency_us", "at"), [(-0.001, NEGATIVE), (0, 0), (0.5, 0), (1, 0), (2, 8), (1024, 80)]
)
def test_the_edges(latency_us: float, at: int) -> None:
    assert bucket(latency_us) == at


def test_negative_latencies_are_the_smallest_and_nothing_has_no_percentile() -> None:
    assert percentile_us({}, 50) is None
    assert percentile_us({NEGATIVE: 3, 80: 1}, 75) == 0.0
    above = percentile_us({NEGATIVE: 3, 80: 1}, 76)
    assert above is not None
    assert above > 1000
