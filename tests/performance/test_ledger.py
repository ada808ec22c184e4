"""The ledger counts what ran, across threads and processes."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.ledger import Ledger, Recorder
from tests.support import run_python

_NOTE_IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from benchmarks.ledger import Ledger, Recorder
record = Recorder(Ledger(Path(sys.argv[1])))
for number in range(500, 900):
    record(number)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.create(tmp_path / "ledger", 1_000)
    yield ledger
    ledger.close()


def test_a_new_ledger_is_empty(ledger: Ledger) -> None:
    assert ledger.capacity == 1_000
    assert ledger.handled_count(0, 1_000) == 0
    assert ledger.duplicate_count(0, 1_000) == 0
    assert ledger.pids == []


def test_threads_and_processes_write_into_one_ledger(
    ledger: Ledger, tmp_path: Path, root: Path
) -> None:
    record = Recorder(ledger)
    before_ns = time.monotonic_ns()
    threads = [
        threading.Thread(target=lambda part=part: [record(n) for n in range(part, 500, 4)])
        for part in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run_python(_NOTE_IN_ANOTHER_PROCESS, str(tmp_path / "ledger"), cwd=root)

    assert ledger.handled_count(0, 1_000) == 900
    assert ledger.handled_count(850, 1_000) == 50
    assert len(set(ledger.pids)) == 2  # one row a process, not one a thread
    assert set(ledger.worker[:500]) == {0}
    assert set(ledger.worker[500:900]) == {1}
    assert all(before_ns <= t <= time.monotonic_ns() for t in ledger.handled[:900])
    assert set(ledger.handled[900:]) == {0}


def test_a_message_that_runs_twice_is_a_duplicate_and_keeps_its_first_time(ledger: Ledger) -> None:
    record = Recorder(ledger)
    record(7)
    first_ns = ledger.handled[7]
    record(7)

    assert ledger.handled_count(0, 1_000) == 1
    assert ledger.duplicate_count(0, 1_000) == 1
    assert ledger.handled[7] == first_ns


def test_the_end_of_a_handler_is_noted_once(ledger: Ledger) -> None:
    record = Recorder(ledger)
    record(7)
    record.ended(7)
    first_ns = ledger.done[7]
    record.ended(7)

    assert ledger.handled[7] <= first_ns == ledger.done[7]
    assert ledger.done[8] == 0
