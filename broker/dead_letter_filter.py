"""Which dead letters are meant."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .dead_letter_entry import CAUSES, DeadLetterEntry
from .digests import DIGEST_LENGTH

__all__ = ["EVERY", "DeadLetterFilter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Picks dead letters; every condition that is given must hold.

    Parameters:
      causes: One of these: `failed`, `undecodable`, `skipped`, `killed_worker`,
        `uncertain`.
      subjects: Of one of these actors or event types.
      error: Part of the error's text; upper and lower case count as one.
      digests: One of these digests, or beginnings of them.
      since: Given up at this time or later, by the server's clock.
      until: Given up before this time.
      ids: One of these letters, as `DeadLetterEntry.id` names them.

    Raises:
      ValueError: A time has no zone, a cause is unknown, or a digest is none.
    """

    causes: Collection[str] = ()
    subjects: Collection[str] = ()
    error: str = ""
    digests: Collection[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    ids: Collection[str] = ()

    def __post_init__(self) -> None:
        for name in ("causes", "subjects", "digests", "ids"):
            if isinstance(getattr(self, name), str):
                raise ValueError(
                    f"{name} is the text {getattr(self, name)!r}: give a list of texts."
                )
        for cause in self.causes:
            if cause not in CAUSES:
                raise ValueError(f"{cause!r} is no cause; use one of {', '.join(CAUSES)}.")
        for digest in self.digests:
            if not 0 < len(digest) <= DIGEST_LENGTH or set(digest) - set("0123456789abcdef"):
                raise ValueError(
                    f"{digest!r} is no digest, nor the beginning of one: they are "
                    f"{DIGEST_LENGTH} of the characters 0-9 and a-f."
                )
        for moment in (self.since, self.until):
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{moment} has no time zone; give one, for example tzinfo=UTC.")

    @property
    def since_ms(self) -> int:
        """`since` in ms UTC; 0 = from the beginning."""
        return 0 if self.since is None else max(0, -(-_us(self.since) // 1000))

    @property
    def until_ms(self) -> int | None:
        """`until` in ms UTC; None = no end."""
        return None if self.until is None else max(0, -(-_us(self.until) // 1000))

    @property
    def needs_reading(self) -> bool:
        """Whether letters must be read to be counted."""
        return self != EVERY

    def matches(self, letter: DeadLetterEntry) -> bool:
        """Whether `letter` is meant."""
        until = self.until_ms
        return (
            letter.died_ms >= self.since_ms
            and (until is None or letter.died_ms < until)
            and (not self.causes or letter.cause in self.causes)
            and (not self.digests or letter.digest.startswith(tuple(self.digests)))
            and (not self.ids or letter.id in self.ids)
            and self.error.casefold() in letter.error.casefold()
            and (not self.subjects or letter.subject in self.subjects)
        )


def _us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


#: All of them.
EVERY = DeadLetterFilter()
