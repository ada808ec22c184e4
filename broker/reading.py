"""Reading logs: by entry id, by time, forwards and backwards, page by page.

Entry ids are not time: the server keeps them rising when its clock is set back. Each entry
therefore carries the server's clock at the append, and reading by time goes by that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

import redis

from ..errors import EventDecodeError
from ..events import Event, decode_as

__all__ = ["LogEntry", "read_ids", "read_times"]

E = TypeVar("E", bound=Event)

#: Entries of one read.
PAGE = 500


@dataclass(frozen=True, slots=True)
class LogEntry(Generic[E]):
    """One event where it stands.

    Parameters:
      part: Partition number or lane.
      entry_id: Stream entry id.
      appended_us: The server's clock when it was appended, us UTC.
    """

    event: E
    part: str
    entry_id: str
    appended_us: int


def _entry(
    cls: type[E], part: str, key: str, entry_id: bytes, fields: dict[bytes, bytes]
) -> LogEntry[E]:
    try:
        event = decode_as(cls, fields.get(b"d", b""))
    except EventDecodeError as error:
        raise type(error)(
            f"Entry {entry_id.decode()} of {key} is no {cls.__name__}: {error}"
        ) from error
    return LogEntry(event, part, entry_id.decode(), int(fields.get(b"a", b"0")))


def read_ids(
    client: redis.Redis,
    cls: type[E],
    key: str,
    part: str,
    *,
    first: str = "-",
    last: str = "+",
    backwards: bool = False,
) -> Iterator[LogEntry[E]]:
    """Entries between two ids, both included (`(ID` excludes).

    Raises:
      EventDecodeError: An entry is no event of `cls`; names it.
    """
    while True:
        page: Any = (
            client.xrevrange(key, last, first, PAGE)
            if backwards
            else client.xrange(key, first, last, PAGE)
        )
        for entry_id, fields in page:
            yield _entry(cls, part, key, entry_id, fields)
        if len(page) < PAGE:
            return
        edge = "(" + page[-1][0].decode()
        first, last = (first, edge) if backwards else (edge, last)


def read_times(
    client: redis.Redis,
    cls: type[E],
    key: str,
    part: str,
    *,
    start: datetime | None,
    end: datetime | None,
    backwards: bool = False,
) -> Iterator[LogEntry[E]]:
    """Entries appended from `start` (included) to `end` (excluded), by the server's clock.

    An id's time is never before its entry's, so nothing before `start` has an id from `start` on
    that is left out, and reading ends at the first entry whose id and time agree and lie after
    `end`.

    Raises:
      ValueError: A time has no zone.
      EventDecodeError: An entry is no event of `cls`; names it.
    """
    start_us = 0 if start is None else _us(start)
    end_us = None if end is None else _us(end)
    entries = read_ids(client, cls, key, part, first=str(start_us // 1000), backwards=backwards)
    for entry in entries:
        after = end_us is not None and entry.appended_us >= end_us
        if entry.appended_us >= start_us and not after:
            yield entry
        elif after and not backwards:
            id_ms = int(entry.entry_id.partition("-")[0])
            if id_ms == entry.appended_us // 1000:
                return


def _us(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone; give one, for example tzinfo=UTC.")
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
