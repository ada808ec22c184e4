"""Entry ids as the server reads and writes them."""

from __future__ import annotations

from .replies import CommandError
from .stream import MAX_ID, ZERO, Id

__all__ = ["bound", "parsed", "shown"]

INVALID = "ERR Invalid stream ID specified as stream command argument"
_LIMIT = 2**64


def shown(entry_id: Id) -> bytes:
    """`MS-NUMBER`."""
    return b"%d-%d" % entry_id


def parsed(word: bytes, number: int = 0) -> Id:
    """An id; `number` stands for a missing second half.

    Raises:
      CommandError: It is none.
    """
    left, dash, right = word.partition(b"-")
    if not left.isdigit() or (dash and not right.isdigit()):
        raise CommandError(INVALID)
    entry_id = (int(left), int(right) if dash else number)
    if max(entry_id) >= _LIMIT:
        raise CommandError(INVALID)
    return entry_id


def bound(word: bytes, *, low: bool) -> Id:
    """One end of a range: `-`, `+`, an id, or `(ID` to leave it out."""
    if word == b"-":
        return ZERO
    if word == b"+":
        return MAX_ID
    excluded = word[:1] == b"("
    ms, number = parsed(word[1:] if excluded else word, 0 if low else MAX_ID[1])
    if not excluded:
        return ms, number
    if low:
        return (ms, number + 1) if number < MAX_ID[1] else (ms + 1, 0)
    if (ms, number) == ZERO:
        raise CommandError("ERR invalid end ID for the interval")
    return (ms, number - 1) if number else (ms - 1, MAX_ID[1])
