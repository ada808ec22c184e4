"""docs/scheduler.md: what it lists is what there is."""

from __future__ import annotations

import re
from pathlib import Path

from streamatiq.scheduler import Schedule, read_schedule_file
from streamatiq.scheduler.kinds import known_kinds
from streamatiq.scheduler.metrics import SchedulerMetrics
from streamatiq.settings import SchedulerSettings

PAGE = (Path(__file__).parents[3] / "docs/scheduler.md").read_text()


def rows(heading: str) -> list[str]:
    """The first cells of the table that begins with `heading`."""
    table = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return [line.split("|")[1] for line in table.splitlines()[2:]]


def names(cells: list[str]) -> set[str]:
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_fields_settings_kinds_and_metrics() -> None:
    assert names(rows("field")) == set(Schedule.model_fields) - {"name"}
    settings = {f"scheduler.{name}" for name in SchedulerSettings.model_fields}
    assert names(rows("setting")) == settings
    assert names(rows("kind")) <= set(known_kinds())
    assert names(rows("kind")) == {
        "publish",
        "send",
        "requeue",
        "checkpoint",
        "retention",
        "replay",
    }
    exported = set(
        re.findall(r"^# TYPE (\S+) ", SchedulerMetrics().exposition().decode(), re.MULTILINE)
    )
    assert names(rows("metric")) == {name for name in exported if not name.endswith("_created")}


def test_the_file_in_the_documentation_is_one(tmp_path: Path) -> None:
    path = tmp_path / "schedules.yaml"
    path.write_text(re.findall(r"```yaml\n(# schedules.yaml.*?)```", PAGE, re.DOTALL)[0])
    assert [one.name for one in read_schedule_file(path)] == ["ny.open", "letters"]


def test_the_kind_in_the_documentation_is_one() -> None:
    (code,) = re.findall(r"```python\n(from pydantic.*?)```", PAGE, re.DOTALL)
    from streamatiq.scheduler.kinds import _kinds

    try:
        exec(compile(code, "scheduler.md", "exec"), {})
        assert "report" in known_kinds()
    finally:
        _kinds.pop("report", None)
