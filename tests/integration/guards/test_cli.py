"""`streamatiq halt`, `resume`, `halts`, `breaker`, and what `health` says of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator

import pytest

from streamatiq import RedisStreamsBroker, Settings
from streamatiq.cli._main import main
from streamatiq.cli.halt import NOTHING

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def broker(redis_url: str, namespace: str) -> Iterator[RedisStreamsBroker]:
    made = RedisStreamsBroker(redis_url, namespace=namespace, settings=Settings())
    yield made
    made.close()


@pytest.fixture
def run(
    redis_url: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs the command line; returns its exit code and all that it said."""
    monkeypatch.setenv("STREAMATIQ_REDIS__URL", redis_url)
    monkeypatch.setenv("STREAMATIQ_NAMESPACE", namespace)

    root = logging.getLogger()

    def call(*words: str) -> tuple[int, str]:
        handlers, level = root.handlers[:], root.level
        try:
            code = main(words)
        finally:
            root.handlers[:], root.level = handlers, level
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def test_halt_look_and_resume(run: Run, broker: RedisStreamsBroker) -> None:
    assert run("halts") == (0, "Nothing is halted.\n")
    assert run("halt", "--all", "--reason", "fire") == (0, "Halted: everything.\n")
    assert run("halt", "--key", "BTC", "--reason", "x") == (
        0,
        "Halted: key 'BTC' of every subscription.\n",
    )
    code, said = run("halt", "--all", "--reason", "again")
    assert (code, "Halted already" in said, "fire" in said) == (0, True, True)
    code, said = run("halts")
    assert code == 0
    assert said.splitlines()[0].startswith("everything is halted since ")
    assert said.splitlines()[0].endswith(": fire")
    code, said = run("resume", "--all", "--reason", "out")
    assert code == 0
    assert said.startswith("Resumed: everything.\n1 other halt holds:\n  key 'BTC'")
    assert run("resume", "--all")[0] == NOTHING
    assert [one.after for one in broker.guard_changes()] == ["running", "halted", "halted"]


def test_a_name_that_nobody_has_read_is_refused(run: Run, broker: RedisStreamsBroker) -> None:
    code, said = run("halt", "risk.chekc", "--reason", "x")
    assert code == 2
    assert "'risk.chekc' is no subscription" in said
    assert broker.halts() == []
    assert run("halt", "risk.check", "--reason", "x", "--unknown-ok")[0] == 0
    assert len(broker.halts()) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("halt", "--all"),
        ("halt", "--all", "--reason", " "),
        ("halt", "--reason", "x"),
        ("halt", "x", "--all", "--reason", "x"),
        ("resume",),
        ("breaker", "close", "x"),
        ("breaker", "open", "x", "--reason", " "),
        ("breaker", "open", "x", "--reason", "x", "--for", "0"),
        ("breaker", "open", "x", "--reason", "x", "--for", "1", "--until-closed"),
    ],
)
def test_wrong_usage(run: Run, broker: RedisStreamsBroker, words: tuple[str, ...]) -> None:
    assert run(*words)[0] == 2
    assert broker.halts() == []
    assert broker.breakers() == []


def test_json(run: Run) -> None:
    _, said = run("halt", "--key", "BTC", "--reason", "x", "--json")
    assert json.loads(said)["new"] is True
    _, said = run("halts", "--json")
    fields = json.loads(said)
    assert (fields["scope"], fields["subscription"], fields["key"]) == ("key", None, "BTC")
    assert fields["reason"] == "x"
    assert json.loads(run("resume", "--key", "BTC", "--json")[1])["key"] == "BTC"
    assert run("halts", "--json") == (0, "")
    _, said = run("breaker", "open", "v", "--reason", "x", "--json")
    assert json.loads(said) == {"breaker": "v", "before": "closed", "after": "open"}
    [line] = run("breaker", "list", "--json")[1].splitlines()
    assert json.loads(line)["state"] == "open"


def test_breakers(run: Run, broker: RedisStreamsBroker) -> None:
    assert run("breaker", "list") == (0, "All breakers are closed.\n")
    said = run("breaker", "open", "venue:x", "--reason", "broken", "--until-closed")
    assert said == (0, "Breaker 'venue:x' is open; it was closed.\n")
    code, text = run("breaker", "list")
    assert code == 0
    assert text.startswith("Breaker 'venue:x' is open until somebody closes or resets it, by ")
    said = run("breaker", "reset", "venue:x", "--reason", "back")
    assert said == (0, "Breaker 'venue:x' is half-open; it was open.\n")
    said = run("breaker", "close", "venue:x", "--reason", "fine")
    assert said == (0, "Breaker 'venue:x' is closed; it was half-open.\n")
    said = run("breaker", "reset", "venue:x", "--reason", "fine")
    assert said == (0, "Breaker 'venue:x' is closed; it was closed.\n")
    assert broker.breakers() == []


def test_health_notes_them_and_they_are_no_problem(run: Run, broker: RedisStreamsBroker) -> None:
    before = run("health")[1].count("PROBLEM")
    broker.halt("risk", reason="maintenance")
    broker.open_breaker("venue:x", reason="broken")
    _, said = run("health")
    assert "NOTE  'risk' is halted since " in said
    assert "NOTE  breaker 'venue:x' is open until " in said
    assert said.count("PROBLEM") == before
    notes = json.loads(run("health", "--json")[1])["notes"]
    assert len(notes) == 2


def test_no_server(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMATIQ_REDIS__URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("STREAMATIQ_REDIS__MAX_RETRIES", "0")
    for words in (("halt", "--all", "--reason", "x"), ("resume", "--all"), ("breaker", "list")):
        code, said = run(*words)
        assert code == 1
        assert "No connection to" in said
