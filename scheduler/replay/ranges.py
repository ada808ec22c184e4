"""Which entries of which streams a replay reads: fixed when it is made, and whole or refused.

Each stream's last entry is noted, so that what is published later is not part of the replay: it
ends, and it is the same again. And it is checked that nothing of the range was trimmed. An entry's
id is never older than the entry (the server keeps ids rising when its clock is set back), so all
that is gone was appended before the end of the millisecond of the newest id that is gone. A range
by event time is whole if it begins a minute behind that: event times are taken to run at most so
much ahead of the server's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ...broker.connections import Link
from ...broker.keys import Keys
from ...broker.logs import Logs
from ...broker.parts import parts
from ...errors import ReplayRangeTrimmed
from ...events import Event
from .spec import ReplaySpec

__all__ = [
    "LAST_SEQUENCE",
    "StreamRange",
    "check_layouts",
    "check_whole",
    "entry_id",
    "may_be_gone",
    "newest_gone",
    "stream_info",
    "stream_ranges",
]

#: How far event times may run ahead of the server's clock, ns.
EVENT_AHEAD_NS = 60 * 1_000_000_000
#: The last entry of a millisecond.
LAST_SEQUENCE = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class StreamRange:
    """One stream of a log, up to its last entry at a certain time.

    Parameters:
      number: Of the partition, or of the lane from high to low.
      key: The stream.
      last: Id of the last entry that is read.
    """

    cls: type[Event]
    part: str
    number: int
    key: str
    last: tuple[int, int]

    @property
    def name(self) -> str:
        """What it is called where positions are stored."""
        return f"{self.cls.event_type}/{self.part}"


def entry_id(text: bytes | str) -> tuple[int, int]:
    """An entry id as numbers, which compare as ids do."""
    ms, _, sequence = (text.decode() if isinstance(text, bytes) else text).partition("-")
    return int(ms), int(sequence or 0)


def stream_ranges(
    spec: ReplaySpec, keys: Keys, ends: dict[str, str] | None = None
) -> list[StreamRange]:
    """The streams of a replay, in the order of the replay.

    Parameters:
      ends: The last entries, by `StreamRange.name`; streams without one are empty.
    """
    return [
        StreamRange(
            cls,
            part,
            number,
            keys.log(cls.event_type, part).entries,
            entry_id((ends or {}).get(f"{cls.event_type}/{part}", "0-0")),
        )
        for cls in spec.classes
        for number, part in enumerate(parts(cls.log))
    ]


def check_layouts(logs: Logs, link: Link, spec: ReplaySpec, keys: Keys) -> None:
    """Compares the layouts of the logs that exist with what their classes declare.

    Raises:
      LogMismatch: They differ.
    """
    for cls in spec.classes:
        if link.send("EXISTS", keys.layout(cls.event_type)):
            logs.check_layout(cls)


def check_whole(link: Link, spec: ReplaySpec, ranges: Sequence[StreamRange]) -> dict[str, str]:
    """Checks that the logs still have all of a range; returns the last entries of their streams.

    Parameters:
      link: Used by this thread.

    Raises:
      ReplayRangeTrimmed: Some of it may be gone; names the stream, and from when on it is whole.
      BrokerError: A stream cannot be read.
    """
    ends: dict[str, str] = {}
    for one in ranges:
        if not link.send("EXISTS", one.key):
            continue
        info = stream_info(link.send("XINFO", "STREAM", one.key))
        ends[one.name] = info["last-generated-id"].decode()
        gone = newest_gone(info)
        if gone is not None and gone > may_be_gone(spec):
            raise _trimmed(spec, one, gone)
    return ends


def may_be_gone(spec: ReplaySpec) -> tuple[int, int]:
    """Up to this id nothing can be in the range."""
    if spec.start_ns is None:
        return (-1, 0)
    ahead_ns = EVENT_AHEAD_NS if spec.time_basis == "event" else 0
    return ((spec.start_ns - ahead_ns) // 1_000_000 - 1, LAST_SEQUENCE)


def _trimmed(spec: ReplaySpec, one: StreamRange, gone: tuple[int, int]) -> ReplayRangeTrimmed:
    whole_from_ns = (gone[0] + 1) * 1_000_000
    if spec.time_basis == "event":
        whole_from_ns += EVENT_AHEAD_NS
    asked = "the beginning" if spec.start_ns is None else _shown(spec.start_ns)
    return ReplayRangeTrimmed(
        f"The log of {one.cls.event_type!r} (part {one.part}) does not have all from {asked} on "
        f"any more: entries up to about {gone[0]}-{gone[1]} were trimmed. By {spec.time_basis} "
        f"time it is whole from {_shown(whole_from_ns)} on: begin there."
    )


def stream_info(reply: Any) -> dict[str, Any]:
    """The reply of XINFO STREAM by name."""
    return {name.decode(): value for name, value in zip(reply[::2], reply[1::2], strict=True)}


def newest_gone(info: dict[str, Any]) -> tuple[int, int] | None:
    """At most this is the newest id that is gone; None: nothing is."""
    if info["entries-added"] <= info["length"]:
        return None
    deleted = entry_id(info.get("max-deleted-entry-id", b"0-0"))
    if not info["length"]:
        return max(deleted, entry_id(info["last-generated-id"]))
    ms, sequence = entry_id(info["first-entry"][0])
    before = (ms, sequence - 1) if sequence else (ms - 1, LAST_SEQUENCE)
    return max(deleted, before)


def _shown(moment_ns: int) -> str:
    return datetime.fromtimestamp(moment_ns / 1e9, UTC).isoformat()
