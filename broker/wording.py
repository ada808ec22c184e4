"""Words of messages that depend on a number."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, one: str, many: str = "") -> str:
    """`number` with its noun: 1 process, 2 processes, 1,000 entries.

    Parameters:
      one: The noun of one.
      many: The noun of any other number; default: `one` with an s.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
