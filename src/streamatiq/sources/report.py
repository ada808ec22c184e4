"""What an ingest run did, so that every row is accounted for:

rows = published + duplicates + checked + uncertain + unsent + skipped + bad
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from .problem import BadRow, Skipped

__all__ = ["IngestReport"]

#: Bad rows that are kept for the closing report.
SHOWN_BAD_ROWS: Final = 10
#: Reasons to skip a row that are counted apart; a column of many values could name millions.
MAX_SKIP_REASONS: Final = 50
_OTHER: Final = "other values"


@dataclass(slots=True)
class IngestReport:
    """Counts of one run; it grows while the run goes on.

    Attributes:
      rows: Rows read.
      published: Events stored.
      duplicates: Events that were there before, so that nothing was stored.
      checked: Events that were found right in a dry run, and not published.
      uncertain: Events of a batch that failed: stored, or not.
      unsent: Events read, and not published because the run was stopped, or found no room.
      skipped: Rows that the mapping leaves out, by reason.
      bad: Rows that are no event.
      first_bad: The first of them.
      kinds: Events read, by kind.
      seconds: How long the run took.
      waited_s: How much of that it waited for room in a full log.
      most_behind_s: Furthest behind the asked pace; None at full speed.
      interrupted: The run was stopped before its end.
    """

    rows: int = 0
    published: int = 0
    duplicates: int = 0
    checked: int = 0
    uncertain: int = 0
    unsent: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    bad: int = 0
    first_bad: list[BadRow] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    waited_s: float = 0.0
    most_behind_s: float | None = None
    interrupted: bool = False

    def count_skipped(self, skipped: Skipped) -> None:
        """Counts a row that the mapping leaves out."""
        known = skipped.reason in self.skipped or len(self.skipped) < MAX_SKIP_REASONS
        self.skipped[skipped.reason if known else _OTHER] += 1

    def count_bad(self, row: BadRow) -> None:
        """Counts a bad row."""
        self.bad += 1
        if len(self.first_bad) < SHOWN_BAD_ROWS:
            self.first_bad.append(row)

    @property
    def accounted(self) -> int:
        """Rows whose fate is known by count; equals `rows` between two batches."""
        sent = self.published + self.duplicates + self.checked + self.uncertain + self.unsent
        return sent + self.skipped.total() + self.bad

    def lines(self) -> list[str]:
        """The report for a reader."""
        kinds = ", ".join(f"{count:,} {kind}s" for kind, count in sorted(self.kinds.items()))
        lines = [f"rows read   {self.rows:,}" + f"  ({kinds})" * bool(kinds)]
        if self.checked:
            lines.append(f"right       {self.checked:,}  (dry run: nothing was published)")
        else:
            lines.append(f"published   {self.published:,}")
        lines.append(f"duplicates  {self.duplicates:,}")
        if self.uncertain:
            lines.append(f"uncertain   {self.uncertain:,}  (their batch failed: stored, or not)")
        if self.unsent:
            lines.append(f"unsent      {self.unsent:,}")
        lines.append(f"skipped     {self.skipped.total():,}")
        lines += [
            f"            {count:,}  {reason}" for reason, count in self.skipped.most_common()
        ]
        lines.append(f"bad rows    {self.bad:,}")
        lines += [f"            {row}" for row in self.first_bad]
        if self.bad > len(self.first_bad):
            more = self.bad - len(self.first_bad)
            lines.append(f"            and {more:,} more; --bad-rows FILE lists all of them")
        rate = self.rows / self.seconds if self.seconds else 0.0
        lines.append(f"took        {self.seconds:.1f} s, {rate:,.0f} rows/s")
        if self.waited_s:
            lines.append(f"waited      {self.waited_s:.1f} s for room in a full log")
        if self.most_behind_s is not None:
            lines.append(f"pace        at most {self.most_behind_s:.3f} s behind the asked pace")
        if self.interrupted:
            lines.append("interrupted before the end")
        return lines
