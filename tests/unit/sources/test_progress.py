"""Progress: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io

from streamatiq.sources import IngestReport, progress_on
from streamatiq.sources.progress import BarProgress, LineProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_come_every_few_seconds() -> None:
    times_s = iter((0.0, 1.0, 4.9, 5.1, 6.0, 10.2))
    out = io.StringIO()
    report = IngestReport(rows=2000, bad=3, seconds=4.0)
    with LineProgress(out, times_s.__next__) as shown:
        for _ in range(5):
            shown.show(report, 0.25)
    assert out.getvalue() == "ingest: 25%, 2,000 rows, 3 bad, 500/s\n" * 2


def test_a_terminal_gets_a_bar_that_vanishes() -> None:
    out = Terminal()
    shown = progress_on(out)
    assert isinstance(shown, BarProgress)
    with shown:
        shown.show(IngestReport(rows=2000), 0.5)
    assert "2,000 rows" in out.getvalue()


def test_a_pipe_gets_lines() -> None:
    assert isinstance(progress_on(io.StringIO()), LineProgress)
