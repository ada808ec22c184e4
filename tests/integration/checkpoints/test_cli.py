"""`streamatiq checkpoint` and `streamatiq retention`."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable

import pytest
import redis
from tests.integration.logs.harness import Bench, Note, note

from streamatiq import checkpointed
from streamatiq.cli._main import main

Run = Callable[..., tuple[int, str]]
OpenBench = Callable[..., Bench]


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


def test_there_and_back(run: Run, open_bench: OpenBench, client: redis.Redis) -> None:
    state = checkpointed("n")

    def work() -> None:
        bench = open_bench()

        @bench.on(Note, name="s", ordered=True, state=state, start="earliest")
        def handler(event: Note) -> None:
            state.set((state.get() or b"") + b"x")

        bench.start()
        bench.settled("s")
        bench.stop()

    looking = open_bench()
    assert run("checkpoint", "list") == (0, "There is no checkpoint.\n")
    assert run("checkpoint", "verify") == (0, "There is no checkpoint.\n")
    code, said = run("checkpoint", "show")
    assert (code, "There is no checkpoint yet" in said) == (1, True)
    looking.logs.publish(note("a"))
    work()
    code, said = run("checkpoint", "create", "--reason", "before the change")
    assert (code, said.startswith("Taken: "), "before the change" in said) == (0, True, True)
    assert "1 subscription on 1 stream, 1 state" in said
    (first,) = [
        json.loads(line)["id"] for line in run("checkpoint", "list", "--json")[1].splitlines()
    ]
    looking.logs.publish_many([note("b"), note("c")])
    work()
    looking.broker.halt("s", reason="wait")
    assert run("checkpoint", "create", "--reason", "after")[0] == 0
    code, said = run("checkpoint", "diff", first)
    assert (code, "position s test.note:0" in said, "(+2 entries)" in said) == (1, True, True)
    assert run("checkpoint", "diff", first, first) == (0, "Nothing differs.\n")
    code, said = run("checkpoint", "show", first)
    assert (code, "s:\n  test.note:0 at " in said, "state n (1 bytes)" in said) == (0, True, True)
    assert "reason wait" in run("checkpoint", "show")[1]
    assert (
        json.loads(run("checkpoint", "show", first, "--json")[1])["reason"] == "before the change"
    )
    assert run("checkpoint", "verify", first) == (0, f"{first}: good\n")

    code, said = run("checkpoint", "restore", first, "--all", "--dry-run")
    assert (code, said.splitlines()[0]) == (
        0,
        "Would restore s: 2 events to run, 2 of them again.",
    )
    assert looking.broker.backlog("unknown") == 0
    code, said = run("checkpoint", "restore", first, "s", "--json")
    assert (code, json.loads(said)["again"], json.loads(said)["done"]) == (0, 2, True)
    looking.broker.resume("s")
    work()
    held = client.hget(looking.keys.log("test.note", "0").state, "s n")
    assert held is not None
    assert held[8:] == b"xxx"  # type: ignore[index]
    code, said = run("checkpoint", "restore", first, "s", "--as", "t")
    assert (code, "Restored t (of s)" in said, "Warning: What 't' emits" in said) == (0, True, True)
    assert run("checkpoint", "restore", first)[0] == 2
    assert run("checkpoint", "restore", first, "x")[0] == 1
    assert run("checkpoint", "create", "--reason", " ")[0] == 2
    client.hset(looking.keys.checkpoints.bodies, first, "{")
    code, said = run("checkpoint", "verify")
    assert (code, "cannot be restored" in said, "good" in said) == (1, True, True)
    assert run("checkpoint", "prune", "--keep-last", "1", "--dry-run")[1].endswith(
        "1 checkpoint would go.\n"
    )
    assert run("checkpoint", "prune", "--keep-last", "1")[1] == f"{first}\n1 checkpoint gone.\n"


def test_retention(
    run: Run, open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch, client: redis.Redis
) -> None:
    monkeypatch.setenv("STREAMATIQ_REDIS__STREAM_MAX_LENGTH", "10")
    bench = open_bench()
    receipts = bench.logs.publish_many([note(n) for n in range(250)])
    assert "test.note:0: 250 entries, 240 more than aimed at\n" in run("retention", "show")[1]
    client.xgroup_create(bench.logs.stream(Note, "0").entries, "idle", receipts[150].entry_id)
    code, said = run("retention", "run", "--dry-run")
    assert (code, f"needed by subscription idle from {receipts[150].entry_id[:-2]}" in said) == (
        0,
        True,
    )
    code, said = run("retention", "run")
    trimmed = re.search(r"(\d+) entries trimmed\.", said)
    assert (code, trimmed is not None) == (0, True)
    assert trimmed is not None
    assert 100 <= int(trimmed[1]) <= 151  # whole blocks only
    assert "idle: nobody reads it" in said
    lines = [json.loads(line) for line in run("retention", "show", "--json")[1].splitlines()]
    assert [line["what"] for line in lines] == ["stream", "unread"]
    monkeypatch.setenv("STREAMATIQ_REDIS__STREAM_MAX_LENGTH", "1000")
    assert "No log has more entries" in run("retention", "show")[1]
