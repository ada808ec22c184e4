"""`streamatiq ingest` without a server: what it prints, and its exit codes."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamatiq.cli import main
from streamatiq.cli.ingest import _Stop

Write = Callable[..., Path]
Outcome = tuple[int, str, str]
GOOD = "key,ts_event,price,size\nV:S,1,1.5,2\nV:S,2,1.5,2\n"
EXAMPLES = Path(__file__).resolve().parents[3] / "examples/ingest"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def run(*arguments: object) -> Outcome:
        code = main(["ingest", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_good_rows_exit_with_0(run: Callable[..., Outcome], write: Write) -> None:
    code, out, err = run("--dry-run", write("a.csv", GOOD))
    assert (code, err) == (0, "")
    assert out.startswith("rows read   2  (2 trades)\nright       2  (dry run:")


def test_bad_rows_exit_with_3_and_are_listed(run: Callable[..., Outcome], write: Write) -> None:
    path = write("a.csv", GOOD + "V:S,x,1,1\n")
    kept = path.with_name("bad.jsonl")
    code, out, err = run("--dry-run", "--bad-rows", kept, path)
    assert (code, err) == (3, "")
    assert f"{path}, line 4: column 'ts_event' is no number of ns: 'x'" in out
    assert json.loads(kept.read_text())["line"] == 4


def test_too_many_bad_rows_exit_with_1(run: Callable[..., Outcome], write: Write) -> None:
    path = write("a.csv", GOOD + "V:S,x,1,1\n" * 5)
    code, out, err = run("--dry-run", "--max-bad", "2", path)
    assert code == 1
    assert "bad rows    3" in out
    assert err.startswith("streamatiq: error: More than 2 bad rows, the last in ")
    assert run("--dry-run", "--max-bad", "5", path)[0] == 3


@pytest.mark.parametrize("example", ["trades.csv", "quotes.jsonl"])
def test_the_examples_are_right(run: Callable[..., Outcome], example: str) -> None:
    mapping = ["-m", EXAMPLES / "trades_csv.yaml"] if example.endswith("csv") else []
    code, out, _ = run("--dry-run", *mapping, EXAMPLES / example)
    assert code == 0
    assert "bad rows    0" in out


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.parquet", "PAR1", "is no Parquet file that can be read"),
        ("a.csv", "", "is empty"),
        ("a.csv", "a,b\n1,2\n", "has no column"),
        ("a.txt", "x", "the name says no known format"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(
    run: Callable[..., Outcome], write: Write, name: str, content: str, problem: str
) -> None:
    code, out, err = run("--dry-run", write(name, content))
    assert (code, out) == (1, "")
    assert err.startswith("streamatiq: error: ")
    assert problem in err
    assert err.count("\n") == 1


def test_a_mistake_in_the_mapping_is_one_line(run: Callable[..., Outcome], write: Write) -> None:
    mapping = write("m.yaml", "version: 1\nkind: quotes\nkey: k\ntime: {}\n")
    code, _, err = run("--dry-run", "-m", mapping, write("a.csv", GOOD))
    assert code == 1
    assert err == (
        f"streamatiq: error: {mapping}:2: 'kind' is 'quotes'; it must be one of quote, trade\n"
    )


def test_limit_and_format(run: Callable[..., Outcome], write: Write) -> None:
    code, out, _ = run("--dry-run", "--limit", "1", "--format", "csv", write("a.data", GOOD))
    assert code == 0
    assert "rows read   1 " in out


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "inf", "nan"])
def test_a_wrong_speed_is_wrong_usage(
    run: Callable[..., Outcome], write: Write, speed: str
) -> None:
    code, _, err = run("--dry-run", f"--speed={speed}", write("a.csv", GOOD))
    assert code == 2
    assert f"'{speed}' is neither 'max' nor a number above 0" in err


def test_a_paced_run_reports_its_pace(run: Callable[..., Outcome], write: Write) -> None:
    content = GOOD.replace("V:S,2", "V:S,100000001")
    code, out, _ = run("--dry-run", "--speed", "2", write("a.csv", content))
    assert code == 0
    assert "behind the asked pace" in out


def test_the_first_signal_asks_and_the_second_interrupts() -> None:
    before = signal.getsignal(signal.SIGTERM)
    stop = _Stop()
    with stop.on_signals():
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked()
        assert stop.wait(10)
        assert stop.signal_number == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    seen: list[object] = []

    def body() -> None:
        with _Stop().on_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
