"""What retention tells."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Floor", "RetentionReport", "StreamReport", "Unread"]


@dataclass(frozen=True, slots=True)
class Floor:
    """What checkpoints and replays need of a stream.

    Parameters:
      lowest: The lowest entry id that is needed.
      by: Who needs it: `checkpoint ID` or `replay ID`.
    """

    lowest: str
    by: str


@dataclass(frozen=True, slots=True)
class StreamReport:
    """One stream of a log.

    Parameters:
      stream: `TYPE:PART`.
      length: Entries that are there now.
      trimmed: How many went; in a dry run none.
      surplus: How many more there are than is aimed at.
      held_by: Who needs the oldest of them: `subscription NAME`, `checkpoint ID`, `replay ID`;
        empty: nobody does; they go with the next run, or are less than a block of the server's.
      lowest: The lowest entry id that is needed; empty: none.
    """

    stream: str
    length: int
    trimmed: int
    surplus: int
    held_by: str
    lowest: str


@dataclass(frozen=True, slots=True)
class Unread:
    """A subscription that no process reads.

    Parameters:
      subscription: Its name.
      silent_s: For how long, seconds, as far as retention has looked.
      waiting: Entries that it has not read or not settled, at least.
      given_up: Whether it was given up; in a dry run, whether it would be.
    """

    subscription: str
    silent_s: float
    waiting: int
    given_up: bool


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """What a run of retention has done, or would do.

    Parameters:
      streams: All streams of logs.
      unread: Subscriptions that nobody reads, the longest silent first.
      notes: What else should be known.
    """

    streams: tuple[StreamReport, ...]
    unread: tuple[Unread, ...]
    notes: tuple[str, ...] = ()

    @property
    def trimmed(self) -> int:
        """Entries that went."""
        return sum(one.trimmed for one in self.streams)

    def __str__(self) -> str:
        given_up = [one.subscription for one in self.unread if one.given_up]
        gone = f"; given up: {', '.join(given_up)}" if given_up else ""
        return f"{self.trimmed:,} entries trimmed{gone}"
