"""What a replay in the foreground shows while it runs."""

from __future__ import annotations

from io import StringIO

from tests.unit.replay.replay_kit import Tick

from streamatiq.cli._replay_run import LINE_EVERY_S, ProgressShown
from streamatiq.scheduler.replay import Definition, Record, ReplayReport, Standing
from streamatiq.scheduler.replay.progress import Progress
from streamatiq.scheduler.replay.spec import ReplaySpec

S = 1_000_000_000


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def record(standing: Standing = Standing.RUNNING, speed: float = 2.0) -> Record:
    spec = ReplaySpec.of(Tick, speed=2, target="isolated")
    progress = Progress(count=5, first_ns=100 * S, last_ns=125 * S, running_ns=10 * S)
    made = Definition("r", spec, {}, 100 * S, 200 * S, 0)
    return Record(made, standing, progress, speed, 1, "", "")


def test_how_much_is_done_and_left() -> None:
    assert record().fraction == 0.25
    assert record().eta_s == 37.5
    assert record(speed=float("inf")).eta_s == 30  # as fast as until now
    assert record(Standing.PAUSED).eta_s is None
    assert record(Standing.DONE).fraction == 1


def test_a_line_every_few_seconds_where_there_is_no_terminal() -> None:
    now = [0.0]
    stream = StringIO()
    with ProgressShown(stream, record, clock_s=lambda: now[0]) as shown:
        shown.show(ReplayReport.of("running", record().progress))
        assert stream.getvalue() == ""
        now[0] = LINE_EVERY_S
        shown.show(ReplayReport.of("running", record().progress))
        shown.show(ReplayReport.of("running", record().progress))
    assert stream.getvalue() == "replay: 25%, 5 events, about 38 s left\n"


def test_a_bar_on_a_terminal() -> None:
    stream = Terminal()
    with ProgressShown(stream, record) as shown:
        shown.show(ReplayReport.of("running", record().progress))
    assert "about 38 s left" in stream.getvalue()
