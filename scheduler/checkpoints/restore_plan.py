"""What a restore would do: looked up without changing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import methodcaller
from typing import Any

from ...broker.checkpoint_scripts import StreamPosition
from ...broker.connections import LinkPool
from ...broker.entry_ids import id_key
from ...broker.keys import SourceKeys
from .model import Position

__all__ = ["Range", "Restored", "StreamRestore", "letters_in", "pages_behind", "settled_keys_in"]

#: Entries, letters or fields of one read.
PAGE = 500


@dataclass(frozen=True, slots=True)
class StreamRestore:
    """What a restore does on one stream.

    Parameters:
      stream: `TYPE:PART`.
      behind: It begins behind this entry.
      pending: Entries up to there that run, too: they were not settled at the checkpoint.
      to_run: Entries that will run, these included, and what is unread anyway.
      again: Of them, those that were settled since the checkpoint.
      states: Names of the handler's states that are put back.
      letters: Dead letters of events that run again: they go.
      done_keys: Business keys that are done by events that run again.
    """

    stream: str
    behind: str
    pending: int
    to_run: int
    again: int
    states: tuple[str, ...] = ()
    letters: int = 0
    done_keys: int = 0


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore has done with one subscription, or would do.

    Parameters:
      checkpoint: Its id.
      subscription: Of the checkpoint.
      name: The one that stands there now: the same, or a new one.
      streams: What happens on each stream.
      warnings: What whoever asks for it should know.
      done: Whether it was done; False: a dry run.
    """

    checkpoint: str
    subscription: str
    name: str
    streams: tuple[StreamRestore, ...]
    warnings: tuple[str, ...]
    done: bool = False

    @property
    def to_run(self) -> int:
        """Events that will run, with those that are unread anyway."""
        return sum(one.to_run for one in self.streams)

    @property
    def again(self) -> int:
        """Of them, those that were settled since the checkpoint."""
        return sum(one.again for one in self.streams)


@dataclass(slots=True)
class Range:
    """Which entries of a stream run after a restore.

    Parameters:
      behind: All behind this one.
      pending: And these.
    """

    behind: str
    pending: Sequence[str]
    _pending: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self._pending = frozenset(self.pending)

    @classmethod
    def of(cls, position: Position) -> Range:
        """What a position stands for."""
        if position.exact:
            return cls(position.last, position.pending)
        return cls(position.safe, ())

    def __contains__(self, entry_id: str) -> bool:
        return entry_id in self._pending or id_key(entry_id) > id_key(self.behind)

    def count(self, position: Position, now: StreamPosition, walk: Callable[[str], int]) -> int:
        """How many entries these are now. `walk` counts those behind an id by reading them."""
        if position.exact and position.read is not None:
            return len(self.pending) + now.added - position.read
        return len(self.pending) + walk(self.behind)


def pages_behind(
    links: LinkPool, entries: str, behind: str, last: str = "+"
) -> Iterator[list[Any]]:
    """The entries behind an id, up to another, page by page."""
    while True:
        read = methodcaller("send", "XRANGE", entries, f"({behind}", last, "COUNT", PAGE)
        page = links.call(read)
        if page:
            yield page
        if len(page) < PAGE:
            return
        behind = page[-1][0].decode()


def letters_in(links: LinkPool, keys: SourceKeys, chosen: Range) -> list[str]:
    """Ids of the dead letters whose events are in `chosen`."""
    found: list[str] = []
    for page in pages_behind(links, keys.dead, "0-0"):
        for letter_id, flat in page:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            entry = fields.get(b"entry", b"").decode("ascii", "replace")
            if "-" in entry and entry in chosen:
                found.append(letter_id.decode())
    return found


def settled_keys_in(links: LinkPool, keys: SourceKeys, chosen: Range) -> list[bytes]:
    """Business keys that are done by events in `chosen`."""
    found: set[bytes] = set()
    for name in (keys.keys, keys.keys_old):
        cursor = b"0"
        while True:
            cursor, flat = links.call(methodcaller("send", "HSCAN", name, cursor, "COUNT", PAGE))
            for key, value in zip(flat[::2], flat[1::2], strict=True):
                state, _, entry = value.decode("utf-8", "replace").partition(" ")
                if state == "d" and entry and entry in chosen:
                    found.add(key)
            if cursor == b"0":
                break
    return sorted(found)
