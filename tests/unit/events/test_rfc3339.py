"""RFC 3339, to the nanosecond and back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamatiq.events.rfc3339 import rfc3339, rfc3339_ns
from streamatiq.events.times import MAX_TIME_NS


@settings(derandomize=True, deadline=None, database=None)
@given(st.integers(0, MAX_TIME_NS))
def test_every_time_comes_back(ns: int) -> None:
    assert rfc3339_ns(rfc3339(ns)) == ns


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (951_782_400_000_000_000, "2000-02-29T00:00:00Z"),
        (MAX_TIME_NS, "2262-04-11T23:47:16.854775807Z"),
    ],
)
def test_what_is_written(ns: int, text: str) -> None:
    assert rfc3339(ns) == text


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01t00:00:01z", 1_000_000_000),
        ("1970-01-01 01:00:00.5+01:00", 500_000_000),
        ("1969-12-31T23:00:00-01:30", 1_800_000_000_000),
        ("1970-01-01T00:00:00.1234567890000Z", 123_456_789),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000_000),
        ("2016-12-31T23:59:60.25Z", 1_483_228_800_250_000_000),
        ("1969-12-31T23:59:59Z", -1_000_000_000),
    ],
)
def test_what_others_write(text: str, ns: int) -> None:
    assert rfc3339_ns(text) == ns


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "RFC 3339"),
        ("1970-01-01T00:00:00", "with a zone"),
        ("1970-01-01T00:00Z", "RFC 3339"),
        ("1970-01-01T00:00:00.Z", "RFC 3339"),
        ("1970-01-01T00:00:00+0100", "RFC 3339"),
        ("1970-01-01T00:00:00Z\n", "RFC 3339"),
        ("\u0661970-01-01T00:00:00Z", "RFC 3339"),
        ("0000-01-01T00:00:00Z", "year 0"),
        ("1970-02-30T00:00:00Z", "day"),
        ("1970-01-01T25:00:00Z", "hour"),
        ("1970-01-01T00:00:00+24:00", "offset"),
        ("1970-01-01T00:00:00.0000000001Z", "more digits than nanoseconds"),
    ],
)
def test_what_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        rfc3339_ns(text)
