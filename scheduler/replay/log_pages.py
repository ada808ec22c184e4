"""Reads pages of logs for a replay, and notices what is trimmed while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from ...broker.connections import Link, LinkPool
from ...broker.faults import translated
from ...errors import ReplayRangeTrimmed
from .items import stored_ts_event
from .ranges import LAST_SEQUENCE, StreamRange, entry_id, may_be_gone, newest_gone, stream_info
from .spec import ReplaySpec
from .streams import Entry

__all__ = ["LogPages", "recorded_span"]


class LogPages:
    """Pages of streams; one round trip each. Thread-safe.

    Parameters:
      links: Connections.
    """

    def __init__(self, spec: ReplaySpec, links: LinkPool) -> None:
        self._links = links
        self._may_be_gone = may_be_gone(spec)

    def __call__(self, stream: StreamRange, first: str, last: str, count: int) -> list[Entry]:
        """As `ReadPage`.

        Raises:
          ReplayRangeTrimmed: Entries were trimmed that were still to be read.
          BrokerError: The server cannot be reached or refuses.
        """
        entries, info = self._links.call(lambda link: _read(link, stream.key, first, last, count))
        gone = newest_gone(stream_info(info)) if info else None
        if gone is not None and gone > max(self._may_be_gone, _before(first)):
            raise ReplayRangeTrimmed(
                f"The log of {stream.cls.event_type!r} (part {stream.part}) was trimmed up to "
                f"about {gone[0]}-{gone[1]} while it was replayed from {first.lstrip('(')} on: "
                "entries of the range are gone. Start a new replay of what is left."
            )
        return entries


def _before(first: str) -> tuple[int, int]:
    """The last id that is not to be read any more."""
    if first.startswith("("):
        return entry_id(first[1:])
    return entry_id(first)[0] - 1, LAST_SEQUENCE


def _read(link: Link, key: str, first: str, last: str, count: int) -> tuple[list[Entry], Any]:
    # XINFO second: what is trimmed between the two is noticed.
    page, info = link.send_many(
        [("XRANGE", key, first, last, "COUNT", count), ("XINFO", "STREAM", key)]
    )
    if isinstance(page, redis.ResponseError):
        with translated(link.endpoint.shown, ("XRANGE", key)):
            raise page
    if isinstance(info, redis.ResponseError):
        info = None  # there is no such stream
    return [_entry(*one) for one in page], info


def _entry(entry_id: bytes, flat: Sequence[bytes]) -> Entry:
    if flat[0] == b"d" and flat[2] == b"a":  # as `publish.lua` writes it
        return Entry(entry_id.decode(), flat[1], int(flat[3]))
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    return Entry(entry_id.decode(), fields.get(b"d", b""), int(fields.get(b"a", b"0")))


def recorded_span(link: Link, spec: ReplaySpec, ranges: Sequence[StreamRange]) -> tuple[int, int]:
    """About when the first and the last event of a range were recorded, ns; for progress only."""
    times: list[int] = []
    for one in ranges:
        if one.last == (0, 0):
            continue
        first = f"{(spec.start_ns or 0) // 1_000_000}" if spec.time_basis == "log" else "-"
        for command in ("XRANGE", "XREVRANGE"):
            bounds = (first, "+") if command == "XRANGE" else ("+", first)
            for entry in link.send(command, one.key, *bounds, "COUNT", 1):
                times.append(_time(spec, _entry(*entry)))
    low = max(min(times, default=0), spec.start_ns or 0)
    high = max(times, default=0)
    return low, high if spec.end_ns is None else min(high, spec.end_ns)


def _time(spec: ReplaySpec, entry: Entry) -> int:
    if spec.time_basis == "log":
        return entry.appended_us * 1000
    return stored_ts_event(entry.data) or 0
