"""The command line: errors become lines and exit codes; help imports no command."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from streamatiq.cli import main, settings_from
from streamatiq.cli._main import COMMANDS, streamatiq
from streamatiq.errors import BrokerConnectionError, ConfigurationError, StreamatiqError
from streamatiq.settings import Settings

Outcome = tuple[int, str, str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working directory, no variables of ours, and the root logger as it was."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith("STREAMATIQ_"):
            monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs the command line in this process."""

    def run(*arguments: str) -> Outcome:
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Puts a function in the place of the command `config`."""

    def command(body: Callable[[], object]) -> None:
        stand_in = click.Command("config", callback=body)
        monkeypatch.setattr(streamatiq, "get_command", lambda ctx, name: stand_in)

    return command


def raising(error: BaseException) -> Callable[[], None]:
    """A command that fails with `error`."""

    def body() -> None:
        raise error

    return body


def test_version_and_help(run: Callable[..., Outcome]) -> None:
    code, out, err = run("--version")
    assert (code, err) == (0, "")
    assert out.startswith("streamatiq 0.")
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert "130  interrupted" in out


def test_every_command_is_found_under_its_name(run: Callable[..., Outcome]) -> None:
    for name in COMMANDS:
        code, out, _ = run(name, "--help")
        assert code == 0
        assert out.startswith(f"Usage: streamatiq {name} ")


def test_an_unknown_name_is_no_command() -> None:
    context = click.Context(streamatiq)
    assert streamatiq.list_commands(context) == list(COMMANDS)
    assert streamatiq.get_command(context, "confg") is None


def test_help_imports_no_command() -> None:
    check = (
        "import sys; from streamatiq.cli import main; main(['--help']); "
        "print([name for name in sys.modules if name.startswith('streamatiq.cli.')], "
        "file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    loaded = set(run.stderr.strip("[]\n").replace("'", "").split(", "))
    assert loaded == {f"streamatiq.cli.{name}" for name in ("_main", "_lazy", "_state")}


@pytest.mark.parametrize("arguments", [("confg",), ("--nope",), ("config", "nope"), ()])
def test_wrong_usage_is_2(arguments: tuple[str, ...], run: Callable[..., Outcome]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Usage: streamatiq" in err
    if arguments == ("confg",):
        assert f"No such command 'confg'; there are: {', '.join(COMMANDS)}." in err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (BrokerConnectionError("no server"), 1, "no server"),
        (StreamatiqError("one\n  two\n\n three"), 1, "one; two; three"),
        (ConfigurationError(), 2, "A setting is unknown, missing or has a bad value."),
        (ConfigurationError("bad key"), 2, "bad key"),
    ],
)
def test_an_error_of_ours_is_one_line(
    error: StreamatiqError,
    code: int,
    line: str,
    run: Callable[..., Outcome],
    command: Callable[..., None],
) -> None:
    command(raising(error))
    assert run("config") == (code, "", f"streamatiq: error: {line}\n")


def test_a_traceback_is_shown_when_asked_for(
    run: Callable[..., Outcome], command: Callable[..., None]
) -> None:
    command(raising(BrokerConnectionError("no server")))
    _, _, err = run("-vv", "config")
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith("\nstreamatiq: error: no server\n")
    assert run("-v", "config")[2] == "streamatiq: error: no server\n"


def test_a_bug_keeps_its_traceback(
    run: Callable[..., Outcome], command: Callable[..., None]
) -> None:
    command(raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        run("config")


def test_an_interrupt_is_130(run: Callable[..., Outcome], command: Callable[..., None]) -> None:
    command(raising(KeyboardInterrupt()))
    code, out, err = run("config")
    assert (code, out, err.strip()) == (130, "", "")


def test_a_command_may_return_an_exit_code(
    run: Callable[..., Outcome], command: Callable[..., None]
) -> None:
    command(lambda: 7)
    assert run("config")[0] == 7
    command(lambda: "text")
    assert run("config")[0] == 0


#: Written at once, as click does it; and left in the buffer until the end, as print() does it.
WRITERS = {
    "at once": "import sys; from streamatiq.cli import main; sys.exit(main(['config', 'show']))",
    "at the end": (
        "import click, sys; from streamatiq.cli._main import main, streamatiq; "
        "body = click.Command('config', callback=lambda: print('x') or 0); "
        "streamatiq.get_command = lambda ctx, name: body; sys.exit(main(['config']))"
    ),
}


@pytest.mark.parametrize("program", WRITERS.values(), ids=WRITERS)
def test_a_reader_that_leaves_is_no_error(program: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    try:
        run = subprocess.run(
            [sys.executable, "-c", program],
            env=buffered,
            stdout=write_end,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(write_end)
    assert (run.returncode, run.stderr) == (1, "")


def test_verbosity_sets_the_log_level(
    run: Callable[..., Outcome], command: Callable[..., None]
) -> None:
    command(lambda: logging.getLogger("some").info("told"))
    assert run("config")[2] == ""
    assert run("-v", "config")[2] == "INFO some: told\n"


def test_settings_are_read_once_from_the_named_file(
    run: Callable[..., Outcome], command: Callable[..., None]
) -> None:
    Path("mine.yaml").write_text("namespace: mine\n")
    seen: list[Settings] = []

    def body() -> None:
        context = click.get_current_context()
        seen.extend((settings_from(context), settings_from(context)))

    command(body)
    assert run("--config", "mine.yaml", "config") == (0, "", "")
    assert seen[0] is seen[1]
    assert seen[0].namespace == "mine"


def test_config_show_tells_values_and_origins(
    run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.yaml").write_text("audit:\n  overrides: {ORDER: full}\n")
    monkeypatch.setenv("STREAMATIQ_REDIS__URL", "redis://me:secret@host")
    code, out, err = run("--config", "mine.yaml", "config", "show")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in out.splitlines()}
    assert rows["namespace"].split() == ['"streamatiq"', "default"]
    assert rows["audit.overrides"].endswith("mine.yaml:2:14")
    assert rows["redis.url"].startswith('"redis://***@host"')
    assert rows["redis.url"].endswith("environment variable STREAMATIQ_REDIS__URL")
    assert "secret" not in out
    assert out.startswith("Settings file: mine.yaml\n")
    monkeypatch.setenv("STREAMATIQ_CONFIG", "mine.yaml")
    assert run("config", "show")[1].startswith("Settings file: mine.yaml\n")
    monkeypatch.delenv("STREAMATIQ_CONFIG")
    none = "Settings file: none was read; config/event_engine.yaml does not exist here\n"
    assert run("config", "show")[1].startswith(none)
    Path("config").mkdir()
    Path("config/event_engine.yaml").touch()
    assert run("config", "show")[1].startswith("Settings file: config/event_engine.yaml\n")


def test_config_check_lists_every_problem(run: Callable[..., Outcome]) -> None:
    assert run("config", "check")[:2] == (
        0,
        "Settings are right: 0 of 30 are set, the others are defaults.\n",
    )
    Path("mine.yaml").write_text("a: 1\nb: 2\n")
    code, out, err = run("--config", "mine.yaml", "config", "check")
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first.startswith("streamatiq: error: mine.yaml:1:1: unknown key 'a'; ")
    assert second.startswith("streamatiq: error: mine.yaml:2:1: unknown key 'b'; ")
