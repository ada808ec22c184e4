"""`streamatiq dead` against a real server: what it prints, what it does, and its exit codes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pytest
import redis

from streamatiq import RedisStreamsBroker
from streamatiq.broker import DeadLetterFilter
from streamatiq.cli import main

Run = Callable[..., tuple[int, str, str]]
DIGEST = "abcdef0123"


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    namespace: str,
) -> Iterator[Run]:
    """Runs `streamatiq dead` in this process, on this test's namespace, 120 columns wide."""
    monkeypatch.setenv("STREAMATIQ_REDIS__URL", redis_url)
    monkeypatch.setenv("STREAMATIQ_NAMESPACE", namespace)
    monkeypatch.setenv("COLUMNS", "120")
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["dead", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def letters(broker: RedisStreamsBroker, client: redis.Redis) -> list[str]:
    """Four letters of a known queue: two of one bug, a later one, an undecodable one."""
    keys = broker.keys
    client.hset(keys.members.known, "default queue:default:normal", 1)
    client.hset(keys.members.known, "idle queue:idle:normal", 1)

    def bury(number: int, **fields: Any) -> str:
        dead_id = f"{1_750_000_000_000 + 1000 * number}-0"
        values = {
            "source": "queue:default:normal",
            "entry": f"{number}-1",
            "data": dramatiq.Message("default", "resize", (number,), {}, {"retries": 2}).encode(),
            "cause": "failed",
            "error": "FileNotFoundError: a.png",
            "traceback": "Traceback\n  in resize\x1b[31m",
            "attempts": 3,
            "consumer": "host:1:a",
            "at": 1,
            "digest": DIGEST,
        }
        client.xadd(keys.queue("default").dead, {**values, **fields}, id=dead_id)
        return dead_id

    return [
        bury(0),
        bury(1),
        bury(2, error="ValueError: \x1b[2Jtwo\nlines " + "x" * 200, digest="0" * 10),
        bury(3, cause="undecodable", data=b"\xff\x00", digest="1" * 10, traceback=""),
    ]


def test_the_overview_shows_queues_with_letters(run: Run, letters: list[str]) -> None:
    code, out, err = run()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["QUEUE", "LETTERS", "CAUSES", "OLDEST", "(UTC)", "NEWEST", "(UTC)"]
    assert lines[1] == (
        "default        4  failed 3, undecodable 1  2025-06-15 15:06:40  2025-06-15 15:06:43"
    )
    assert lines[4] == f"  2 x  {DIGEST}  resize: FileNotFoundError: a.png"
    assert lines[-1] == "Next: streamatiq dead list default"
    assert "idle" not in out
    (found,) = map(json.loads, run("--json")[1].splitlines())
    assert (found["queue"], found["letters"], found["causes"]) == (
        "default",
        4,
        {"failed": 3, "undecodable": 1},
    )
    assert found["bugs"][0]["letters"] == 2


def test_nothing_is_said_plainly(run: Run, client: redis.Redis, broker: RedisStreamsBroker) -> None:
    client.hset(broker.keys.members.known, "q queue:q:normal", 1)
    assert run() == (0, "No dead letters in 1 queue or subscription.\n", "")
    assert run("list", "q") == (0, "No dead letters in q.\n", "")
    assert run("list", "q", "--bugs") == (0, "No dead letters in q.\n", "")
    assert run("list", "q", "--cause", "failed") == (0, "No such dead letters in q.\n", "")
    assert run("list", "q", "--json") == (0, "", "")


def test_list_is_a_table_that_fits_and_obeys_no_letter(run: Run, letters: list[str]) -> None:
    code, out, err = run("list", "default")
    assert (code, err) == (0, "")
    table = out.splitlines()[:5]
    assert [line.split()[0] for line in table] == ["ID", *letters]
    assert max(map(len, table)) <= 120
    assert table[3].endswith("...")
    assert "ValueError: [2Jtwo lines xxx" in table[3]
    assert "\x1b" not in out
    assert "(undecodable): FileNotFoundError" in table[4]
    assert f"Look:  streamatiq dead show default {letters[3]}" in out


def test_list_goes_on_page_by_page(run: Run, letters: list[str]) -> None:
    _, out, _ = run("list", "default", "--limit", 3, "--newest")
    assert [line.split()[0] for line in out.splitlines()[1:4]] == letters[:0:-1]
    assert f"streamatiq dead list default --newest --after {letters[1]}" in out
    _, out, _ = run("list", "default", "--limit", 3, "--newest", "--after", letters[1])
    assert [line.split()[0] for line in out.splitlines()[1:2]] == letters[:1]
    assert "More:" not in out


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--cause", "undecodable"], [3]),
        (["--actor", "resize", "--error", "filenot"], [0, 1]),
        (["--digest", "abc", "--digest", "1111"], [0, 1, 3]),
        (["--since", "2025-06-15T15:06:42"], [2, 3]),
        (["--until", "2025-06-15T17:06:41+02:00"], [0]),
        (["--since", "1h"], []),
        (["--until", "1h"], [0, 1, 2, 3]),
    ],
)
def test_conditions(run: Run, letters: list[str], options: list[str], found: list[int]) -> None:
    code, out, _ = run("list", "default", "--json", *options)
    assert code == 0
    assert [json.loads(line)["id"] for line in out.splitlines()] == [letters[n] for n in found]


def test_bugs_are_counted(run: Run, letters: list[str]) -> None:
    _, out, _ = run("list", "default", "--bugs")
    assert out.splitlines()[1].split()[:3] == [DIGEST, "2", "failed"]
    assert f"Rerun: streamatiq dead requeue default --digest {DIGEST}" in out
    _, out, _ = run("list", "default", "--bugs", "--json", "--limit", 1)
    assert json.loads(out)["newest"] == letters[1]


def test_show_tells_everything(run: Run, letters: list[str]) -> None:
    code, out, _ = run("show", "default", letters[0])
    assert code == 0
    for part in (
        "cause     failed",
        "error     FileNotFoundError: a.png",
        "what      resize",
        "given up  2025-06-15 15:06:40 UTC",
        "runs      3, the last in host:1:a",
        "from      queue:default:normal, entry 0-1",
        '"actor_name": "resize"',
        "  in resize\\x1b[31m",
        f"Rerun:  streamatiq dead requeue default {letters[0]}",
    ):
        assert part in out
    assert repr(b"\xff\x00") in run("show", "default", letters[3])[1]
    found = json.loads(run("show", "default", letters[3], "--json")[1])
    assert found["data_base64"] == "/wA="
    code, out, err = run("show", "default", "5-5")
    assert (code, out) == (1, "")
    assert err.startswith("streamatiq: error: 'default' has no dead letter 5-5: ")


def test_requeue_does_what_its_dry_run_says(
    run: Run, letters: list[str], broker: RedisStreamsBroker
) -> None:
    code, out, _ = run("requeue", "default", "--digest", DIGEST, "--dry-run")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [*letters[:2], "2"]
    assert out.endswith("2 letters of default would be requeued; nothing was changed.\n")
    assert broker.count_dead_letters("default") == 4
    assert run("requeue", "default", "--digest", DIGEST) == (0, "default: 2 requeued.\n", "")
    assert run("requeue", "default", "--digest", DIGEST) == (0, "default: 0 requeued.\n", "")
    code, out, _ = run("requeue", "default", letters[0], letters[2], "--json")
    assert code == 1
    assert [json.loads(line) for line in out.splitlines()] == [
        {"id": letters[0], "outcome": "gone"},
        {"id": letters[2], "outcome": "requeued"},
    ]
    assert run("requeue", "default", "--all") == (0, "default: 1 requeued.\n", "")


def test_what_cannot_be_requeued_is_said_and_is_3(
    run: Run, broker: RedisStreamsBroker, client: redis.Redis
) -> None:
    client.hset(broker.keys.members.known, "risk log:order:0", 1)
    keys = broker.keys.log("order", "0").subscription("risk")
    client.xadd(keys.dead, {"source": "log:order:0", "entry": "1-1", "cause": "failed"}, id="7-0")
    code, out, _ = run("requeue", "risk", "7-0")
    assert code == 3
    assert out.splitlines()[0].startswith("order:0/7-0  kept: the log does not have the event")
    assert out.splitlines()[1] == "risk: 0 requeued, 1 kept."


def test_purge_asks_first(
    run: Run, letters: list[str], broker: RedisStreamsBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run("purge", "default", "--older-than", "1h")
    assert (code, out) == (2, "")
    assert "give --yes" in err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked: list[str] = []

    def answer(text: str, **_: object) -> bool:
        asked.append(text)
        return len(asked) > 1

    monkeypatch.setattr("click.confirm", answer)
    assert run("purge", "default", letters[0]) == (1, "", "Nothing was deleted.\n")
    assert run("purge", "default", letters[0]) == (0, "default: 1 purged.\n", "")
    assert asked == ["Delete 1 dead letter of default for good?"] * 2
    code, out, _ = run("purge", "default", "--older-than", "1h", "--dry-run")
    assert (code, out.count("\n")) == (0, 4)
    assert run("purge", "default", "--older-than", "1h", "--yes")[1] == "default: 3 purged.\n"
    assert broker.count_dead_letters("default", DeadLetterFilter()) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list"], "Missing argument 'QUEUE'"),
        (["list", "nope"], "'nope' is no queue or subscription of namespace"),
        (["list", "default", "--after", "x"], "'x' is no id of a dead letter"),
        (["list", "default", "--since", "soon"], "'soon' is no time"),
        (["list", "default", "--digest", "xyz"], "'xyz' is no digest"),
        (["requeue", "default"], "Which ones? Give ids"),
        (["requeue", "default", "--all", "--cause", "failed"], "--all excludes"),
        (["purge", "default", "--yes"], "Which ones? Give ids"),
        (["purge", "default", "--older-than", "7"], "'7' is no age"),
        (["purge", "default", "--older-than", "7d", "--until", "1h"], "exclude each other"),
        (["--json", "list", "default"], "Give --json behind list"),
    ],
)
def test_wrong_usage_is_2(
    run: Run,
    letters: list[str],
    broker: RedisStreamsBroker,
    arguments: list[str],
    said: str,
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert broker.count_dead_letters("default") == 4


def test_a_server_that_is_not_there_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMATIQ_REDIS__URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("STREAMATIQ_REDIS__MAX_RETRIES", "0")
    code, out, err = run()
    assert (code, out) == (1, "")
    assert err.startswith("streamatiq: error: No connection to redis://127.0.0.1:1")
    assert err.count("\n") == 1
