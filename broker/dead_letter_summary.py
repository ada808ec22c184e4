"""Dead letters at a glance: how many, of which causes, of which bugs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .dead_letter_entry import DeadLetterEntry

__all__ = ["Bug", "DeadLetterSummary", "summarise"]


@dataclass(frozen=True, slots=True)
class Bug:
    """Letters of one digest.

    Parameters:
      letters: How many there are among those that were looked at.
      newest: One of them.
      first_ms: When the oldest of them was given up, ms UTC.
    """

    digest: str
    letters: int
    newest: DeadLetterEntry
    first_ms: int


@dataclass(frozen=True, slots=True)
class DeadLetterSummary:
    """The dead letters of one queue.

    Parameters:
      queue: Whose they are.
      letters: How many there are.
      looked_at: How many of them, from the newest on, `causes` and `bugs` tell of.
      causes: Letters by cause, the most frequent first.
      bugs: Letters by digest, the most frequent first.
      oldest_ms, newest_ms: When they were given up, ms UTC; None if there are none.
    """

    queue: str
    letters: int
    looked_at: int
    causes: dict[str, int]
    bugs: tuple[Bug, ...]
    oldest_ms: int | None
    newest_ms: int | None


def summarise(
    queue: str, letters: int, oldest_ms: int | None, newest_first: Iterable[DeadLetterEntry]
) -> DeadLetterSummary:
    """The summary of a queue.

    Parameters:
      letters, oldest_ms: Of all its letters.
      newest_first: Those to look at.
    """
    causes: Counter[str] = Counter()
    bugs: dict[str, Bug] = {}
    newest_ms = None
    for letter in newest_first:
        newest_ms = newest_ms or letter.died_ms
        causes[letter.cause] += 1
        bug = bugs.get(letter.digest)
        bugs[letter.digest] = (
            Bug(letter.digest, 1, letter, letter.died_ms)
            if bug is None
            else replace(bug, letters=bug.letters + 1, first_ms=letter.died_ms)
        )
    return DeadLetterSummary(
        queue=queue,
        letters=letters,
        looked_at=causes.total(),
        causes=dict(causes.most_common()),
        bugs=tuple(sorted(bugs.values(), key=lambda bug: (-bug.letters, -bug.newest.died_ms))),
        oldest_ms=oldest_ms,
        newest_ms=newest_ms,
    )
