"""Times: int nanoseconds, converted from aware datetimes exactly, never from naive ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamatiq.errors import EventDecodeError, InvalidEvent
from streamatiq.events import MarketDataEvent, decode, encode, now_ns, to_ns

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INDIA = timezone(timedelta(hours=5, minutes=30))


@settings(derandomize=True, deadline=None, database=None)
@given(
    st.datetimes(
        datetime(1970, 1, 2), datetime(2262, 1, 1), timezones=st.sampled_from([UTC, INDIA])
    )
)
def test_conversion_is_exact(moment: datetime) -> None:
    ns = to_ns(moment)
    assert ns % 1_000 == 0
    assert EPOCH + timedelta(microseconds=ns // 1_000) == moment


def test_naive_is_refused() -> None:
    with pytest.raises(ValueError, match=r"datetime\(2024, 1, 2.*naive.*tzinfo=UTC"):
        to_ns(datetime(2024, 1, 2))


def test_now_is_now() -> None:
    assert abs(now_ns() - to_ns(datetime.now(UTC))) < 60 * 10**9


def test_an_event_takes_an_aware_datetime(quote: MarketDataEvent) -> None:
    moment = datetime(2024, 8, 8, 23, 54, 13, 937_000, tzinfo=UTC)
    made = MarketDataEvent(ts_event=moment, key="V:S", data=quote.data, ts_recv=moment)
    assert made.ts_event == made.ts_recv == 1_723_161_253_937_000_000


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (datetime(2024, 1, 2), r"naive.*datetime\.datetime\(2024, 1, 2"),
        (datetime(1969, 1, 2, tzinfo=UTC), "greater than or equal to 0, got -31449600000000000"),
        (-1, "greater than or equal to 0, got -1"),
        (1 << 63, "less than or equal to .* got 9223372036854775808"),
        (1.5, r"got 1.5 \(float\)"),
        (1.0, r"got 1.0 \(float\)"),
        (float("nan"), r"got nan \(float\)"),
        (True, r"got True \(bool\)"),
        ("1", r"got '1' \(str\)"),
        (None, "got None"),
    ],
)
def test_what_is_no_time(quote: MarketDataEvent, value: object, complaint: str) -> None:
    with pytest.raises(InvalidEvent, match=f"field 'ts_event'.*{complaint}"):
        MarketDataEvent(ts_event=value, key="V:S", data=quote.data)


@pytest.mark.parametrize("text", [b"1.5", b"1e3", b'"1"', b"true", b"null", b"-1", b"1e999"])
def test_what_is_no_time_on_the_wire(quote: MarketDataEvent, text: bytes) -> None:
    data = encode(quote).replace(b'"ts_event":1723161253937000000', b'"ts_event":' + text)
    with pytest.raises(EventDecodeError, match="field 'ts_event'"):
        decode(data)
