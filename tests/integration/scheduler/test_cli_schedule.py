"""`streamatiq schedule`: every command, its words and exit codes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.scheduler.harness import Desk

from streamatiq.cli import main

Run = Callable[..., tuple[int, str, str]]

FILE = """
schedules:
  beat:
    every: 10s
    kind: publish
    parameters: {type: test.tick, event: {text: beat}}
  nightly:
    cron: "30 2 * * *"
    zone: Europe/Berlin
    kind: publish
    parameters: {type: test.tick}
"""


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    namespace: str,
    tmp_path: Path,
) -> Iterator[Run]:
    """Runs the command line in this process."""
    monkeypatch.setenv("STREAMATIQ_NAMESPACE", namespace)
    monkeypatch.setenv("STREAMATIQ_REDIS__URL", redis_url)
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["schedule", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def add(run: Run, *more: str) -> tuple[int, str, str]:
    return run(
        "add", "beat", "--every", "10s", "--kind", "publish", "-p", "type=test.tick",
        "-p", 'event={"text": "x"}', *more,
    )  # fmt: skip


def test_add_list_show_and_remove(run: Run, desk: Desk) -> None:
    assert run("list") == (0, "No schedule is defined.\n", "")
    code, out, err = add(run)
    assert (code, err) == (0, "")
    assert out.startswith("beat: created.\nNext: 20")
    assert add(run)[1].startswith("beat: same.")
    code, out, err = add(run, "--jitter", "2s")
    assert (code, out) == (1, "")
    assert err.startswith("streamatiq: error: A schedule 'beat' exists and is another")
    assert add(run, "--jitter", "2s", "--replace")[1].startswith("beat: changed.")
    code, out, _ = run("list")
    assert out.splitlines()[0].split() == ["NAME", "KIND", "WHEN", "NEXT", "(UTC)", "LAST", "(UTC)"]
    assert out.splitlines()[1].startswith("beat  publish  every 10s  20")
    code, out, _ = run("show", "beat")
    assert "  jitter: 2s\n" in out
    assert '  parameters: {"event": {"text": "x"}, "type": "test.tick"}\n' in out
    assert "so far:  nothing\n" in out
    (line,) = run("list", "--json")[1].splitlines()
    assert json.loads(line)["definition"]["every"] == "10s"
    assert json.loads(run("show", "beat", "--json")[1]) == json.loads(line)
    assert run("remove", "beat") == (0, "Removed: beat.\n", "")
    code, _, err = run("remove", "beat")
    assert code == 1
    assert "There is no schedule 'beat' in namespace" in err


def test_pause_resume_run_and_history(run: Run, desk: Desk) -> None:
    add(run)
    assert run("history", "beat")[1] == "Nothing has happened yet.\n"
    assert run("pause", "beat")[1] == "beat: paused.\n"
    assert run("pause", "beat")[1] == "beat: was paused already.\n"
    assert " paused" in run("list")[1]
    assert run("run", "beat")[1] == "beat: asked for.\n"
    assert run("run", "beat")[1] == "beat: was asked for already, and has not begun.\n"
    out = run("show", "beat")[1]
    assert "paused:  since 20" in out
    assert "asked:   a run, at 20" in out
    leader = desk.lead()
    leader.work()
    assert run("resume", "beat")[1] == "beat: goes on.\n"
    assert run("resume", "beat")[1] == "beat: was not paused.\n"
    desk.now_ms += 600_000
    leader.look()
    code, out, _ = run("history", "beat")
    assert code == 0
    lines = out.splitlines()
    assert lines[1].split()[2:5] == ["missed", "-", "-"] or "done" in lines[1]
    assert "asked" in lines[-1]
    assert "published test.tick" in lines[-1]
    entries = [json.loads(line) for line in run("history", "beat", "--json")[1].splitlines()]
    assert {entry["outcome"] for entry in entries} == {"done", "missed"}
    assert len(run("history", "beat", "--limit", "1")[1].splitlines()) == 2
    assert "so far:  " in run("show", "beat")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--every", "0"], "every: 0s is too short an interval"),
        (["--cron", "x"], "cron 'x' has 1 fields instead of five"),
        (["--every", "1h", "--zone", "Mars"], "zone 'Mars' is not known"),
        (["--every", "1h", "-p", "type=nope"], "No event class is registered as 'nope'"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_changed(
    run: Run, arguments: list[str], said: str
) -> None:
    code, out, err = run("add", "bad", "--kind", "publish", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
    assert run("list")[1] == "No schedule is defined.\n"
    assert run("add", "bad", "--every", "1h", "--kind", "publish", "-p", "type")[0] == 2
    assert run("add", "bad", "--every", "1h", "--kind", "none")[0] == 2


def test_a_file_is_applied_after_showing_the_difference(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "schedules.yaml"
    path.write_text(FILE)
    code, out, _ = run("apply", str(path), "--dry-run")
    assert code == 1
    assert out.startswith("+ beat\n      every: 10s\n")
    assert "+ nightly\n" in out
    assert run("list")[1] == "No schedule is defined.\n"
    code, _, err = run("apply", str(path))
    assert code == 2
    assert "Nobody can be asked here: give --yes, or --dry-run." in err
    code, out, _ = run("apply", str(path), "--yes")
    assert (code, out.splitlines()[-1]) == (0, "Done.")
    # Idempotent.
    assert run("apply", str(path), "--dry-run") == (0, "No difference: 2 schedules.\n", "")
    assert run("apply", str(path)) == (0, "No difference: 2 schedules.\n", "")

    add(run, "--replace")
    path.write_text(FILE.replace("10s", "20s").replace("nightly", "weekly"))
    code, out, _ = run("apply", str(path), "--dry-run", "--prune")
    assert code == 1
    assert "~ beat\n" in out
    assert "  -   every: 10s\n" in out
    assert "  +   every: 20s\n" in out
    assert "+ weekly\n" in out
    assert "- nightly\n" in out
    assert run("apply", str(path), "--yes")[0] == 0
    names = [json.loads(line)["name"] for line in run("list", "--json")[1].splitlines()]
    assert names == ["beat", "nightly", "weekly"]  # removed only when that is asked for
    assert run("apply", str(path), "--yes", "--prune")[0] == 0
    names = [json.loads(line)["name"] for line in run("list", "--json")[1].splitlines()]
    assert names == ["beat", "weekly"]


def test_a_file_with_a_fault_changes_nothing(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "schedules.yaml"
    path.write_text(FILE.replace("30 2 * * *", "30 25 * * *"))
    code, out, err = run("apply", str(path), "--yes")
    assert (code, out) == (2, "")
    assert "Schedule 'nightly': cron '30 25 * * *'" in err
    path.write_text(FILE.replace("test.tick}", "test.tock}"))
    assert run("apply", str(path), "--yes")[0] == 2
    assert run("list")[1] == "No schedule is defined.\n"


def test_handlers_of_the_settings_are_known(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An actor that is declared in a module of `workers.handlers`."""
    import dramatiq.broker

    monkeypatch.setattr(dramatiq.broker, "global_broker", None)
    (tmp_path / "cli_actors.py").write_text(
        "import dramatiq\n@dramatiq.actor\ndef declared(): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    send = ("add", "mail", "--every", "1h", "--kind", "send", "-p", "actor=declared")
    code, _, err = run(*send)
    assert code == 2
    assert "no actor 'declared' is declared here; there are none." in err
    monkeypatch.setenv("STREAMATIQ_WORKERS__HANDLERS", '["cli_actors"]')
    assert run(*send)[0] == 0
