"""Times: exact to the nanosecond, or refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamatiq.sources.mapping import TimeUnit
from streamatiq.sources.problem import BadCell
from streamatiq.sources.times import time_reader

NS = 1723161253937000251


def read(unit: TimeUnit, cell: Any, *, utc: bool = False, floats: bool = False) -> int:
    return time_reader(unit, assume_utc=utc, allow_float=floats)(cell)


@pytest.mark.parametrize(
    ("unit", "cell", "ns"),
    [
        ("ns", NS, NS),
        ("ns", "1723161253937000252", NS + 1),
        ("us", 1723161253937000, 1723161253937000_000),
        ("ms", "1723161253937", 1723161253937_000_000),
        ("ms", "1723161253937.000251", NS),
        ("s", Decimal("1723161253.937000251"), NS),
        ("s", "1.5e3", 1500_000_000_000),
        ("iso", "2024-08-08T23:54:13.937000251Z", NS),
        ("iso", "2024-08-09 01:54:13.937000251+02:00", NS),
        ("iso", "2024-08-08T18:54:13,937000251-0500", NS),
        ("iso", "1970-01-01T00:00:00Z", 0),
    ],
)
def test_a_time_is_exact(unit: TimeUnit, cell: Any, ns: int) -> None:
    assert read(unit, cell) == ns


@pytest.mark.parametrize(
    ("unit", "cell", "reason"),
    [
        ("ns", "1.5", "has a fraction of a nanosecond: '1.5' ns"),
        ("ns", "soon", "is no number of ns: 'soon'"),
        ("ns", "1e999999999", "is no number of ns"),
        ("ns", "0e999999999", "is no number of ns"),
        ("ns", "NaN", "is no number of ns"),
        ("ns", "9" * 5000, "is no number of ns"),
        ("s", "1." + "0" * 20 + "1", "has a fraction of a nanosecond"),
        ("ms", True, "is no number of ms: True"),
        ("ms", 1.5, "is a float, which may be inexact"),
        ("iso", 5, "is no ISO 8601 time: '5'"),
        ("iso", "2024-08-08", "is no ISO 8601 time"),
        ("iso", "2024-08-08T23:54:13.1234567890Z", "is no ISO 8601 time"),
        ("iso", "2024-13-08T23:54:13Z", "is no time: "),
        ("iso", "2024-08-08T23:54:13", "has no time zone: '2024-08-08T23:54:13'"),
    ],
)
def test_what_is_no_exact_time_is_refused(unit: TimeUnit, cell: Any, reason: str) -> None:
    with pytest.raises(BadCell) as caught:
        read(unit, cell)
    assert str(caught.value).startswith(reason)


def test_what_the_mapping_allows_is_taken() -> None:
    assert read("iso", "2024-08-08 23:54:13.937000251", utc=True) == NS
    assert read("ms", 1.5, floats=True) == 1_500_000


@given(
    st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)),
    st.integers(min_value=-14 * 60, max_value=14 * 60),
    st.integers(min_value=0, max_value=999),
)
def test_iso_text_of_any_zone_is_read_exactly(moment: datetime, offset: int, ns: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    text = zoned.isoformat(timespec="microseconds")
    since = zoned - datetime(1970, 1, 1, tzinfo=UTC)
    exact = since // timedelta(microseconds=1) * 1000 + ns
    assert read("iso", f"{text[:26]}{ns:03d}{text[26:]}") == exact
