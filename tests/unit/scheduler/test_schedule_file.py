"""Files of schedules."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamatiq.errors import InvalidSchedule
from streamatiq.scheduler import Schedule, read_schedule_file

GOOD = """
schedules:
  open:
    cron: "30 9 * * mon-fri"
    zone: America/New_York
    kind: publish
    parameters:
      type: signal
      event: {key: X}
  once:
    at: 2026-12-24T18:00:00
    zone: Europe/Berlin
    kind: send
    parameters: {actor: greet, args: [1]}
"""


def test_a_file_is_read_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "schedules.yaml"
    path.write_text(GOOD)
    assert read_schedule_file(path) == [
        Schedule(
            name="open",
            cron="30 9 * * mon-fri",
            zone="America/New_York",
            kind="publish",
            parameters={"type": "signal", "event": {"key": "X"}},
        ),
        Schedule(
            name="once",
            at="2026-12-24T18:00:00",
            zone="Europe/Berlin",
            kind="send",
            parameters={"actor": "greet", "args": [1]},
        ),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it must be a mapping with `schedules` alone"),
        ("schedules: []", "it must be a mapping with `schedules` alone"),
        ("schedules: {}\nmore: 1", "it must be a mapping with `schedules` alone"),
        ("schedules: {a: 5}", "Schedule 'a': it must be a mapping of fields"),
        ("schedules: {a: {every: 1h, kind: k, name: b}}", "without a name"),
        ("schedules: {a: {every: 0, kind: k}, b: {kind: k}}", "Schedule 'b': give one of cron"),
        ("schedules:\n  a: {every: 1h, kind: k}\n  a: {every: 2h, kind: k}", ":3:3: 'a' stands"),
        ("schedules: {a: {every: 1h, kind: k, kind: j}}", "'kind' stands here twice"),
        ("schedules: [", "schedules.yaml:1:13: "),
        ("schedules: {a: !!python/object:os.system {}}", "could not determine a constructor"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "schedules.yaml"
    path.write_text(text)
    with pytest.raises(InvalidSchedule) as caught:
        read_schedule_file(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidSchedule, match="cannot be read"):
        read_schedule_file(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InvalidSchedule, match="cannot be read"):
        read_schedule_file(tmp_path / "bytes.yaml")
