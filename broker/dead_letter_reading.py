"""Reading dead letters: page by page, in order of time over all streams of a queue.

The order is that of their ids, which the server's clock makes: the clocks of the processes that
gave letters up do not agree. Memory holds a page a stream.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from .connections import LinkPool
from .dead_letter_entry import DeadLetterEntry, letter_from, place_of
from .dead_letter_filter import EVERY, DeadLetterFilter
from .members import ReadSource

__all__ = ["DeadStream", "count", "dead_streams", "last_id", "read", "split_id"]

#: Letters of one read, over all streams: one may take some 10 kB and more.
PAGE = 200

#: Place of a letter in the order of its queue.
_Position = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class DeadStream:
    """One dead-letter stream of a queue.

    Parameters:
      place: What its letters' ids begin with; empty for a work queue.
      source: One of the sources whose letters stand there; of a log, the only one.
    """

    key: str
    queue: str
    place: str
    source: ReadSource


def dead_streams(sources: Sequence[ReadSource]) -> list[DeadStream]:
    """The dead-letter streams of a queue with these sources."""
    streams: dict[str, DeadStream] = {}
    for one in sources:
        key = one.keys.dead
        streams.setdefault(key, DeadStream(key, one.group, place_of(one.name), one))
    return sorted(streams.values(), key=lambda stream: stream.place)


def split_id(streams: Sequence[DeadStream], letter_id: str) -> tuple[DeadStream | None, str]:
    """The stream and the id there that a letter's id means; None for a stream of another queue.

    Raises:
      ValueError: It is no id of a letter.
    """
    place, _, dead_id = letter_id.rpartition("/")
    _numbers(dead_id, letter_id)
    if not place and len(streams) == 1:
        return streams[0], dead_id
    if not place and streams:
        raise ValueError(
            f"{letter_id!r} may stand in {len(streams)} places; write it as PLACE/{letter_id}, for "
            f"example {streams[0].place}/{letter_id}."
        )
    return next((stream for stream in streams if stream.place == place), None), dead_id


def read(
    links: LinkPool,
    streams: Sequence[DeadStream],
    where: DeadLetterFilter = EVERY,
    *,
    after: str | None = None,
    limit: int | None = None,
    newest_first: bool = False,
    up_to: dict[str, str] | None = None,
) -> Iterator[DeadLetterEntry]:
    """Letters in the order of their ids. See `DeadLetters.read`.

    Parameters:
      up_to: By key, the last id that is read of that stream; others are not read at all. It
        does not hold for letters that are given by their ids.
    """
    if up_to is not None and not where.ids:
        streams = [stream for stream in streams if stream.key in up_to]
    if where.ids:
        found: Iterable[DeadLetterEntry] = _by_ids(links, streams, where, newest_first)
        # Found by their ids, in whatever form these were given.
        where = replace(where, ids=())
    else:
        page = max(10, PAGE // max(1, len(streams)))
        found = heapq.merge(
            *(
                _stream(
                    links, stream, where, after, newest_first, page, (up_to or {}).get(stream.key)
                )
                for stream in streams
            ),
            key=_position,
            reverse=newest_first,
        )
    edge = None if after is None else _edge(streams, after)
    wanted = (
        letter
        for letter in found
        if where.matches(letter)
        and (
            edge is None or (_position(letter) < edge if newest_first else _position(letter) > edge)
        )
    )
    return wanted if limit is None else islice(wanted, limit)


def count(links: LinkPool, streams: Sequence[DeadStream], where: DeadLetterFilter = EVERY) -> int:
    """How many letters there are."""
    if where.needs_reading:
        return sum(1 for _ in read(links, streams, where))
    commands = [("XLEN", stream.key) for stream in streams]
    return sum(links.call(lambda link: [link.send(*one) for one in commands]))


def last_id(links: LinkPool, stream: DeadStream) -> str | None:
    """The id of the stream's newest letter; None if it has none."""
    found = links.call(lambda link: link.send("XREVRANGE", stream.key, "+", "-", "COUNT", 1))
    return found[0][0].decode() if found else None


def _stream(
    links: LinkPool,
    stream: DeadStream,
    where: DeadLetterFilter,
    after: str | None,
    newest_first: bool,
    page: int,
    up_to: str | None,
) -> Iterator[DeadLetterEntry]:
    """One stream's letters between the times of `where`, from near `after` on."""
    first = str(where.since_ms) if where.since_ms else "-"
    last = up_to or "+"
    if where.until_ms is not None and where.until_ms <= _ms(last):
        last = f"({where.until_ms}-0"
    if after is not None:
        at = after.rpartition("/")[2]
        if newest_first and _ms(at) <= _ms(last.lstrip("(")):
            last = at
        elif not newest_first and _ms(at) >= where.since_ms:
            first = at
    while True:
        command = (
            ("XREVRANGE", stream.key, last, first) if newest_first
            else ("XRANGE", stream.key, first, last)
        )  # fmt: skip
        found: list[Any] = links.call(
            lambda link, command=command: link.send(*command, "COUNT", page)  # type: ignore[misc]
        )
        for dead_id, fields in found:
            yield letter_from(stream.queue, dead_id, fields)
        if len(found) < page:
            return
        edge = "(" + found[-1][0].decode()
        first, last = (first, edge) if newest_first else (edge, last)


def _by_ids(
    links: LinkPool, streams: Sequence[DeadStream], where: DeadLetterFilter, newest_first: bool
) -> list[DeadLetterEntry]:
    letters = []
    for letter_id in where.ids:
        stream, dead_id = split_id(streams, letter_id)
        if stream is None:
            continue
        key = stream.key
        found = links.call(lambda link: link.send("XRANGE", key, dead_id, dead_id))  # noqa: B023 - called here
        letters += [letter_from(stream.queue, one, fields) for one, fields in found]
    return sorted(letters, key=_position, reverse=newest_first)


def _position(letter: DeadLetterEntry) -> _Position:
    return (*_numbers(letter.dead_id, letter.id), place_of(letter.source))


def _edge(streams: Sequence[DeadStream], letter_id: str) -> _Position:
    place, _, dead_id = letter_id.rpartition("/")
    if not place and len(streams) == 1:
        place = streams[0].place
    return (*_numbers(dead_id, letter_id), place)


def _numbers(dead_id: str, shown: str) -> tuple[int, int]:
    ms, _, number = dead_id.partition("-")
    if not (ms.isascii() and ms.isdigit() and number.isascii() and number.isdigit()):
        raise ValueError(
            f"{shown!r} is no id of a dead letter: they look like 1754899200000-0, or "
            "order:0/1754899200000-0 in a subscription."
        )
    return int(ms), int(number)


def _ms(stream_id: str) -> float:
    return float("inf") if stream_id == "+" else int(stream_id.partition("-")[0])
