"""Ids of stream entries: MS-SEQ, ordered as two numbers."""

from __future__ import annotations

__all__ = ["START", "id_after", "id_before", "id_key"]

#: Before every entry.
START = "0-0"
#: Highest number within a millisecond.
_MAX_SEQ = 2**64 - 1


def id_key(entry_id: str | bytes) -> tuple[int, int]:
    """What entry ids are compared by."""
    ms, _, seq = (entry_id.decode() if isinstance(entry_id, bytes) else entry_id).partition("-")
    return int(ms), int(seq or 0)


def id_after(entry_id: str) -> str:
    """The lowest id behind `entry_id`."""
    ms, seq = id_key(entry_id)
    return f"{ms}-{seq + 1}" if seq < _MAX_SEQ else f"{ms + 1}-0"


def id_before(entry_id: str) -> str:
    """The highest id before `entry_id`."""
    ms, seq = id_key(entry_id)
    if seq:
        return f"{ms}-{seq - 1}"
    return f"{ms - 1}-{_MAX_SEQ}" if ms else START
