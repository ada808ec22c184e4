"""Times as RFC 3339 text, to the nanosecond: `2024-08-08T23:54:13.937000001Z`.

`datetime` holds microseconds, so the fraction is written and read here.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from .times import to_ns

__all__ = ["rfc3339", "rfc3339_ns"]

_NS_PER_S: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:)([0-9]{2})(?:\.([0-9]+))?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def rfc3339(ns: int) -> str:
    """Return a time in ns since 1970 UTC as RFC 3339 text; a fraction has nine digits."""
    seconds, rest = divmod(ns, _NS_PER_S)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}Z" if rest else f"{text}Z"


def rfc3339_ns(text: str) -> int:
    """Return RFC 3339 text as ns since 1970 UTC; a leap second is the second after it, as in Unix.

    Raises:
      ValueError: It is no such text, or says more than nanoseconds can hold.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError('give RFC 3339 text with a zone, such as "2024-08-08T23:54:13.937Z"')
    day, minute, second, fraction, zone = found.groups(default="")
    if len(fraction.rstrip("0")) > 9:
        raise ValueError("more digits than nanoseconds have; round it to nine")
    leap = int(second == "60")
    moment = datetime.fromisoformat(
        f"{day}T{minute}{'59' if leap else second}{zone.upper().replace('Z', '+00:00')}"
    )
    return to_ns(moment) + leap * _NS_PER_S + int(fraction[:9].ljust(9, "0"))
