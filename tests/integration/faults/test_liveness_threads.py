"""Workers that live and do not consume: each thread of a process that can die or stand still."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.integration.logs.harness import Bench, Echo, Note, note
from tests.support import wait_until

from streamatiq.broker.health import HealthReport, Problem

#: Seconds without progress that are a problem here; shorter than all that is waited for.
SILENCE_S = 0.3


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """What a thread waits for that stands still; set at the end, so that the worker can stop."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def working(monkeypatch: pytest.MonkeyPatch, bench: Bench, stuck: threading.Event) -> Bench:
    """A worker of two threads that has handled an event of `watched`."""
    # Asks for `monkeypatch` first, so that what is patched stays so until the worker has stopped.
    monkeypatch.setattr("streamatiq.broker.reader.BLOCK_MS", 50)
    monkeypatch.setattr("streamatiq.broker.process.FLUSH_S", 0.2)

    @bench.on(Note, name="watched")
    def watched(event: Note) -> Echo:
        if event.text == "wait":
            stuck.wait(10)
        return Echo(ts_event=2, text=event.text)

    bench.start(threads=2)
    bench.logs.publish(note("first"))
    bench.echoes(1)
    bench.settled("watched")
    assert _look(bench).healthy
    return bench


def _look(bench: Bench, **options: Any) -> HealthReport:
    return bench.broker.health(max_silence_s=SILENCE_S, **options)


def _problem(bench: Bench) -> Problem:
    """The one problem that appears."""
    (problem,) = wait_until(lambda: _look(bench).problems)
    return problem


#: A thread that ends so is what is tested.
dies = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def _dies(*_: object, **__: object) -> None:
    raise SystemExit  # which nothing catches: the thread ends without a word


@dies
def test_an_intake_thread_that_has_died(working: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamatiq.broker.reader.Reader._block", _dies)
    working.logs.publish(note("unread"))
    problem = _problem(working)
    assert (problem.queue, problem.what) == (
        "watched",
        "its intake thread has died: nothing is read",
    )


def test_an_intake_thread_that_stands_still(
    working: Bench, monkeypatch: pytest.MonkeyPatch, stuck: threading.Event
) -> None:
    monkeypatch.setattr("streamatiq.broker.reader.Reader._block", lambda *_: stuck.wait(10))
    working.logs.publish(note("unread"))
    problem = _problem(working)
    assert (problem.queue, problem.what) == ("watched", "there is room, and no read has ended")
    assert problem.since_s is not None
    assert problem.since_s > SILENCE_S


@dies
def test_a_committer_thread_that_has_died(working: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamatiq.broker.process.FLUSH_S", 0.1)
    monkeypatch.setattr("streamatiq.broker.committer.Committer._commit", _dies)
    working.logs.publish(note("unsettled"))
    assert _problem(working).what == "its committer thread has died: nothing is settled"


def test_a_committer_thread_that_stands_still(
    working: Bench, monkeypatch: pytest.MonkeyPatch, stuck: threading.Event
) -> None:
    def waits(*_: object) -> list[object]:
        stuck.wait(10)
        return []

    monkeypatch.setattr("streamatiq.broker.committer.Committer._commit", waits)
    working.logs.publish(note("unsettled"))
    assert _problem(working).what == "1 outcome is not settled"


@dies
def test_a_consumer_thread_that_has_died(working: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamatiq.broker.consumer.StreamConsumer.__next__", _dies)
    problem = _problem(working)
    assert problem.queue == "watched"
    assert problem.what == "Dramatiq's consumer thread has died: nothing is handed out"


def test_a_consumer_thread_that_stands_still(
    working: Bench, monkeypatch: pytest.MonkeyPatch, stuck: threading.Event
) -> None:
    monkeypatch.setattr("streamatiq.broker.buffer.PAUSE_S", 0.2)
    monkeypatch.setattr(
        "streamatiq.broker.consumer.StreamConsumer.__next__", lambda _: stuck.wait(10) and None
    )
    problem = _problem(working)
    assert problem.queue == "watched"
    assert problem.what == "Dramatiq's consumer thread asks for nothing"


@dies
def test_worker_threads_that_have_died(working: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dramatiq.worker._WorkerThread.process_message", _dies)
    working.logs.publish_many([note("a"), note("b")])
    report = wait_until(
        lambda: r if (r := _look(working)).processes[0].threads_alive == 0 else None
    )
    assert report is not None
    assert report.problems[0].what == "2 of 2 worker threads have died"


def test_deliveries_that_no_thread_begins(working: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dramatiq.worker._WorkerThread.process_message", lambda *_: None)
    working.logs.publish(note("lost on the way"))
    assert _problem(working).what == "deliveries wait though a worker thread is free"


def test_a_pool_whose_threads_all_wait_is_busy(working: Bench) -> None:
    """A deadlock and a long calculation look the same from outside: shown, with their age."""
    working.logs.publish_many([note("wait") for _ in range(4)])
    wait_until(lambda: _look(working).processes[0].running == 2)
    begun_at = time.monotonic()
    process = wait_until(
        lambda: one if (one := _look(working).processes[0]).running_s > 2 * SILENCE_S else None
    )
    assert process is not None
    assert process.running_what == "watched: watched"
    assert process.running_s <= time.monotonic() - begun_at + 1
    assert _look(working).healthy
    (problem,) = _look(working, max_running_s=SILENCE_S).problems
    assert (problem.queue, problem.what) == ("watched", "watched runs")


def test_a_worker_that_is_paused_is_healthy(
    working: Bench, monkeypatch: pytest.MonkeyPatch, stuck: threading.Event
) -> None:
    monkeypatch.setattr("streamatiq.broker.buffer.PAUSE_S", 0.2)
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.1)
    working.logs.publish_many([note("wait") for _ in range(2)])
    wait_until(lambda: _look(working).processes[0].running == 2)
    working.logs.publish_many([note(n) for n in range(10)])
    worker: Any = working.broker._worker
    pausing = threading.Thread(target=worker.pause)  # returns once the handlers have ended
    pausing.start()
    wait_until(lambda: all(one.paused for one in worker.workers))
    stuck.set()
    pausing.join()
    seen_at = time.monotonic()

    def healthy_for_long() -> bool:
        assert _look(working).healthy
        return time.monotonic() - seen_at > 4 * SILENCE_S

    wait_until(healthy_for_long)
    worker.resume()
    working.echoes(13)
    assert _look(working).healthy


def test_a_stopping_worker_is_healthy(working: Bench, stuck: threading.Event) -> None:
    working.logs.publish(note("wait"))
    wait_until(lambda: _look(working).processes[0].running == 1)
    worker: Any = working.broker._worker
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    wait_until(lambda: not _look(working).processes[0].queues)
    assert _look(working).healthy
    stuck.set()
    stopping.join()


def test_a_process_that_does_not_consume_has_nothing_to_report(
    open_bench: Callable[..., Bench],
) -> None:
    assert open_bench().broker.health() == HealthReport([], [])
