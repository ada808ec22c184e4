"""What counts as healthy, judged from records; and for how long something has been stuck."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamatiq.broker.health import (
    HealthReport,
    Problem,
    ProcessHealth,
    QueueHealth,
    State,
    decode_record,
    encode_record,
    problems_of,
)
from streamatiq.broker.pulse import Since

QUEUE = QueueHealth("q", State.READING, 1, 1, 0.0, 0.0, 0.0, True, True)
HEALTHY = ProcessHealth("host:7:token", [QUEUE], threads=8, threads_alive=8, running=1)
HOURS_S = 36_000.0


def _with_queue(**changes: object) -> ProcessHealth:
    return replace(HEALTHY, queues=[replace(QUEUE, **changes)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "health",
    [
        HEALTHY,
        replace(HEALTHY, running_s=HOURS_S),  # a handler that runs for hours
        _with_queue(idle_s=HOURS_S),  # a queue that is idle for hours
        _with_queue(state=State.PAUSED),
        _with_queue(state=State.NEW),
        _with_queue(unread_s=15.0, trouble="No connection."),  # it will have reconnected soon
        replace(HEALTHY, silent_s=5.0),
        replace(HEALTHY, queues=[], threads=0, threads_alive=0, running=0),  # it stops
    ],
)
def test_what_is_healthy(health: ProcessHealth) -> None:
    assert problems_of(health) == []


@pytest.mark.parametrize(
    ("health", "queue", "what", "since_s"),
    [
        (replace(HEALTHY, silent_s=7.0), "", "no heartbeat", 7.0),
        (replace(HEALTHY, committer=False), "", "its committer thread has died", None),
        (replace(HEALTHY, unsettled=5, unsettled_s=21.0), "", "5 outcomes are not settled", 21.0),
        (replace(HEALTHY, unsettled=1, unsettled_s=21.0), "", "1 outcome is not settled", 21.0),
        (replace(HEALTHY, threads_alive=7), "", "1 of 8 worker threads has died", None),
        (replace(HEALTHY, threads_alive=6), "", "2 of 8 worker threads have died", None),
        (replace(HEALTHY, unstarted_s=21.0), "", "deliveries wait though", 21.0),
        (_with_queue(intake=False), "q", "its intake thread has died", None),
        (_with_queue(consumer=False), "q", "Dramatiq's consumer thread has died", None),
        (_with_queue(unread_s=21.0), "q", "there is room, and no read has ended", 21.0),
        (_with_queue(unread_s=21.0, trouble="Denied."), "q", "cannot read", 21.0),
        (_with_queue(unasked_s=21.0), "q", "consumer thread asks for nothing", 21.0),
    ],
)
def test_what_is_not_healthy(
    health: ProcessHealth, queue: str, what: str, since_s: float | None
) -> None:
    (problem,) = problems_of(health)
    assert problem.process == "process 7 on host"
    assert (problem.queue, problem.since_s) == (queue, since_s)
    assert what in problem.what
    assert problem.advice
    assert not HealthReport([health], [problem]).healthy


def test_a_limit_for_running_handlers() -> None:
    health = replace(HEALTHY, running_s=61.0, running_what="q: resize")
    assert problems_of(health, max_running_s=62) == []
    (problem,) = problems_of(health, max_running_s=60)
    assert (problem.queue, problem.what) == ("q", "resize runs")


def test_a_server_that_does_not_answer_is_no_problem_of_this_process() -> None:
    health = replace(_with_queue(unread_s=99.0), unsettled=1, unsettled_s=99.0, silent_s=99.0)
    assert problems_of(health, own=True) == []
    assert problems_of(replace(health, committer=False), own=True) != []


def test_records_round_trip() -> None:
    assert decode_record(encode_record(HEALTHY)) == HEALTHY


def test_a_problem_says_who_where_since_when_and_what_to_do() -> None:
    problem = Problem("process 7 on h", "q", 33.3, "nothing is read", "Restart it.")
    assert str(problem) == "process 7 on h, 'q': nothing is read for 33 s. Restart it."
    assert str(Problem("", "", None, "Nobody is there", "Go.")) == "Nobody is there. Go."
    assert str(Problem("", "q", None, "nobody reads it", "Go.")) == "'q': nobody reads it. Go."


def test_being_stuck_is_timed_from_the_first_look_without_progress() -> None:
    now = 100.0
    since = Since(lambda: now)
    assert since.stuck_s("a", True, 1) == 0
    now += 3
    assert since.stuck_s("a", True, 1) == 3
    assert since.stuck_s("b", True, 1) == 0
    now += 3
    assert since.stuck_s("a", True, 2) == 0  # progress
    now += 3
    assert since.stuck_s("a", True, 2) == 3
    assert since.stuck_s("a", False, 2) == 0
    now += 3
    assert since.stuck_s("a", True, 2) == 0  # so again, not still
