"""Lengths of time as people write them: `90`, `90s`, `15m`, `1h30m`, `2d`."""

from __future__ import annotations

import re
from datetime import timedelta

__all__ = ["milliseconds", "shown"]

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
#: Longest length, ms: a hundred years.
MAX_MS = 100 * 366 * 86_400_000


def milliseconds(value: object) -> int:
    """Reads a length of time.

    Parameters:
      value: Seconds as a number, a timedelta, or text: numbers with ms, s, m, h, d or w.

    Returns:
      Whole milliseconds.

    Raises:
      ValueError: It is no length of time, or longer than a hundred years.
    """
    length: float
    if isinstance(value, timedelta):
        length = value.total_seconds() * 1000
    elif isinstance(value, int | float) and not isinstance(value, bool):
        length = value * 1000
    elif isinstance(value, str) and re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", value.strip()):
        length = float(value) * 1000
    elif isinstance(value, str) and re.fullmatch(rf"(?:{_PART.pattern})+", value.strip()):
        length = sum(float(number) * _UNITS_MS[unit] for number, unit in _PART.findall(value))
    else:
        raise ValueError(f"{value!r} is no length of time; write 90s, 15m, 1h30m or 2d")
    if not 0 <= length <= MAX_MS:
        raise ValueError(f"{value!r} is not between 0 and a hundred years")
    return round(length)


def shown(length_ms: int) -> str:
    """The text that `milliseconds` reads back, shortest first: `1h30m`."""
    text, rest = "", length_ms
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _UNITS_MS[unit])
        text += f"{count}{unit}" if count else ""
    return text or "0s"
