"""What each consumer reads, as it is recorded on the server.

A record is complete: whoever finds the consumer dead can take what it held, without having that
queue or subscription in its own code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from .keys import SourceKeys
from .sources import Source

__all__ = ["ReadSource", "decode_reads", "encode_reads", "reads_of"]


@dataclass(frozen=True, slots=True)
class ReadSource:
    """One stream that a consumer reads."""

    name: str
    group: str
    is_log: bool
    keys: SourceKeys


_reads = TypeAdapter(list[ReadSource])


def reads_of(sources: Sequence[Source]) -> list[ReadSource]:
    """What reading `sources` means."""
    return [ReadSource(one.name, one.group, one.is_log, one.keys) for one in sources]


def encode_reads(sources: Sequence[Source]) -> bytes:
    """The record of one queue's sources."""
    return _reads.dump_json(reads_of(sources))


def decode_reads(record: bytes) -> list[ReadSource]:
    """The sources of one record."""
    return _reads.validate_json(record)
