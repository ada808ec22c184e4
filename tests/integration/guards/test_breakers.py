"""Breakers in one process: what counts, how they open and close, keys, plain actors."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import dramatiq
import pytest
from dramatiq.errors import RateLimitExceeded, Retry
from dramatiq.middleware import Middleware, SkipMessage
from dramatiq.middleware.time_limit import TimeLimitExceeded
from tests.integration.logs.harness import Bench, Note, note
from tests.support import wait_until

from streamatiq import Breaker, CircuitBreaker, errors
from streamatiq.broker.settlements import DONE
from streamatiq.broker.turning_away import TurnedAway

#: Opens at the second failure, and tries again soon.
QUICK = Breaker(failure_threshold=2, reset_time_s=0.2)
#: Opens at the second failure, and stays open as long as a test lasts.
SLOW = Breaker(failure_threshold=2, reset_time_s=60)


def states(bench: Bench) -> dict[str, str]:
    return {one.name: one.state for one in bench.broker.breakers()}


def changes(bench: Bench, name: str) -> list[str]:
    """The states that a breaker was brought into, in order."""
    return [one.after for one in bench.broker.guard_changes() if one.name == name][::-1]


def test_failures_in_a_row_open_it_and_a_probe_closes_it(bench: Bench) -> None:
    down = True
    ran: list[str] = []

    @bench.on(Note, name="venue", breaker=QUICK)
    def venue(event: Note) -> None:
        ran.append(event.text)
        if down:
            raise OSError("no answer")

    bench.start(threads=1)
    bench.logs.publish_many([note(n) for n in range(6)])
    wait_until(lambda: "open" in changes(bench, "venue"))
    [opened] = [one for one in bench.broker.guard_changes() if one.after == "open"][-1:]
    assert (opened.before, opened.reason) == ("closed", "OSError: no answer (in venue)")
    assert len(ran) == 2
    down = False
    bench.settled("venue")
    assert set(ran) == {"0", "1", "2", "3", "4", "5"}
    assert states(bench) == {}
    assert changes(bench, "venue") == ["open", "half_open", "closed"]
    # Each event that failed has one attempt more than those that only waited.
    assert sorted(ran) == ["0", "0", "1", "1", "2", "3", "4", "5"]


def test_a_failed_probe_opens_it_again(bench: Bench) -> None:
    @bench.on(Note, name="venue", breaker=QUICK, max_retries=50)
    def venue(event: Note) -> None:
        raise OSError

    bench.start(threads=2)
    bench.logs.publish_many([note(n) for n in range(4)])
    wait_until(lambda: changes(bench, "venue").count("open") == 3)
    told = changes(bench, "venue")[:5]
    assert told == ["open", "half_open", "open", "half_open", "open"]


def test_a_success_ends_the_row(bench: Bench) -> None:
    @bench.on(Note, name="venue", breaker=SLOW, max_retries=0)
    def venue(event: Note) -> None:
        if event.text == "bad":
            raise OSError

    bench.start(threads=1)
    for _ in range(4):
        bench.logs.publish(note("bad"))
        wait_until(lambda: states(bench) == {"venue": "closed"}, what="a failure is counted")
        guards = bench.broker.guards
        assert guards is not None
        wait_until(lambda guards=guards: not guards.quiet)
        bench.logs.publish(note("good"))
        wait_until(lambda: states(bench) == {}, what="the row is ended")
    assert changes(bench, "venue") == []


def test_failures_of_two_processes_are_one_row(open_bench: Callable[..., Bench]) -> None:
    benches = [open_bench(), open_bench()]
    ran: list[int] = []
    for number, bench in enumerate(benches):

        @bench.on(Note, name=f"venue{number}", breaker=SLOW, breaker_key="shared", max_retries=0)
        def venue(event: Note, number: int = number) -> None:
            ran.append(number)
            raise OSError

        bench.start(threads=1)
    benches[0].logs.publish(note("x"))
    wait_until(lambda: states(benches[0]) == {"shared": "open"})
    assert sorted(ran) == [0, 1]


def test_a_breaker_per_key(bench: Bench) -> None:
    ran: list[str] = []

    @bench.on(
        Note, name="keyed", breaker=SLOW, breaker_key=lambda event: event.key and f"v:{event.key}"
    )
    def keyed(event: Note) -> None:
        ran.append(event.key)
        if event.key in ("bad", ""):
            raise OSError

    bench.start(threads=1)
    bench.logs.publish_many([note(n, key="bad") for n in range(4)])
    wait_until(lambda: states(bench) == {"v:bad": "open"})
    bench.logs.publish_many([note(n, key="good") for n in range(4)])
    bench.logs.publish(note("none"))
    wait_until(lambda: ran.count("good") == 4)
    wait_until(lambda: ran.count("") >= 4, what="without a key there is no breaker")
    assert states(bench) == {"v:bad": "open"}
    assert ran.count("bad") == 2


def test_plain_actors(bench: Bench) -> None:
    bench.broker.add_middleware(CircuitBreaker())
    ran: list[str] = []

    @dramatiq.actor(broker=bench.broker, breaker=QUICK, min_backoff=10, max_backoff=20)
    def call(what: str) -> None:
        ran.append(what)
        if len(ran) <= 2:
            raise OSError

    @dramatiq.actor(
        broker=bench.broker, breaker=SLOW, breaker_key=lambda venue, *_: venue, max_retries=0
    )
    def keyed(venue: str, ok: bool) -> None:
        if not ok:
            raise OSError

    bench.start(threads=1)
    for n in range(3):
        call.send(str(n))
    wait_until(lambda: changes(bench, "call") == ["open", "half_open", "closed"])
    for _ in range(2):
        keyed.send("x", False)
    wait_until(lambda: states(bench) == {"x": "open"})
    keyed.send("y", True)
    wait_until(lambda: bench.broker.backlog("default") == 0)


class Custom(Exception):
    pass


@pytest.mark.parametrize(
    ("breaker", "error", "throws", "counts"),
    [
        (Breaker(), OSError(), (), True),
        (Breaker(), TimeLimitExceeded(), (), True),
        (Breaker(counts=(OSError,)), TimeLimitExceeded(), (), True),
        (Breaker(ignores=(TimeLimitExceeded,)), TimeLimitExceeded(), (), False),
        (Breaker(counts=(OSError,)), ConnectionError(), (), True),
        (Breaker(counts=(OSError,)), ValueError(), (), False),
        (Breaker(ignores=(ConnectionError,)), ConnectionError(), (), False),
        (Breaker(ignores=(ConnectionError,)), OSError(), (), True),
        (Breaker(), Retry(), (), False),
        (Breaker(), RateLimitExceeded("x"), (), False),
        (Breaker(counts=(RateLimitExceeded,)), RateLimitExceeded("x"), (), True),
        (Breaker(), SkipMessage(), (), False),
        (Breaker(), TurnedAway(DONE), (), False),
        (Breaker(), Custom(), (Custom,), False),
        (Breaker(counts=(Custom,)), Custom(), (Custom,), True),
        (Breaker(), KeyboardInterrupt(), (), False),
    ],
)
def test_what_counts(
    breaker: Breaker, error: BaseException, throws: tuple[type[BaseException], ...], counts: bool
) -> None:
    assert breaker.counts_as_failure(error, throws) is counts


def test_a_probe_without_an_outcome_leaves_its_place(bench: Bench) -> None:
    tried: list[str] = []

    @bench.on(Note, name="venue", breaker=QUICK, max_retries=50)
    def venue(event: Note) -> None:
        tried.append(event.text)
        if len(tried) <= 3:
            raise Retry(delay=10)

    bench.start(threads=1)
    bench.broker.open_breaker("venue", reason="test", reset_time_s=0.05)
    bench.logs.publish(note("x"))
    wait_until(lambda: states(bench) == {}, what="the fourth probe closes it")
    assert len(tried) == 4
    assert changes(bench, "venue") == ["open", "half_open", "closed"]


def test_a_probe_that_another_middleware_turns_away_leaves_its_place(
    open_bench: Callable[..., Bench],
) -> None:
    class Refuses(Middleware):
        left = 3

        def before_delivery(self, broker: Any, delivery: Any) -> None:
            if self.left:
                self.left -= 1
                raise TurnedAway(None)

    bench = open_bench()

    @bench.on(Note, name="venue", breaker=QUICK)
    def venue(event: Note) -> None: ...

    bench.broker.add_middleware(Refuses())
    bench.start(threads=1)
    bench.broker.open_breaker("venue", reason="test", reset_time_s=0.05)
    bench.logs.publish(note("x"))
    wait_until(
        lambda: states(bench) == {}, what="the place was not kept for ten seconds", timeout_s=5
    )
    bench.settled("venue")


def test_one_probe_of_all_processes(open_bench: Callable[..., Bench]) -> None:
    benches = [open_bench() for _ in range(3)]
    probing, go_on = threading.Semaphore(0), threading.Event()
    running: list[str] = []
    for bench in benches:

        @bench.on(Note, name="venue", breaker=QUICK, time_limit=60_000)
        def venue(event: Note) -> None:
            running.append(event.text)
            probing.release()
            go_on.wait(10)

        bench.start(threads=2)
    benches[0].broker.open_breaker("venue", reason="test", reset_time_s=0.1)
    benches[0].logs.publish_many([note(n) for n in range(12)])
    assert probing.acquire(timeout=10)
    assert not probing.acquire(timeout=0.5), "no second one"
    go_on.set()
    wait_until(lambda: len(running) >= 12)
    assert states(benches[0]) == {}


def test_by_hand(bench: Bench) -> None:
    broker = bench.broker
    assert broker.open_breaker("a", reason="x") == "closed"
    [opened] = broker.breakers()
    assert opened.until is not None
    assert (opened.until - opened.since).total_seconds() == 60, "the settings'"
    assert broker.open_breaker("a", reason="y", reset_time_s=math.inf) == "open"
    [opened] = broker.breakers()
    assert (opened.until, opened.reason) == (None, "y")
    assert broker.reset_breaker("a", reason="z") == "open"
    assert states(bench) == {"a": "half_open"}
    assert broker.close_breaker("a", reason="z") == "half_open"
    assert broker.close_breaker("a", reason="z") == "closed"
    assert broker.reset_breaker("a", reason="z") == "closed"
    assert changes(bench, "a") == ["open", "open", "half_open", "closed"]
    with pytest.raises(ValueError, match="reason"):
        broker.close_breaker("a", reason="")
    for wrong in (0, -1, math.nan):
        with pytest.raises(ValueError, match="reset_time_s"):
            broker.open_breaker("a", reason="x", reset_time_s=wrong)
    with pytest.raises(ValueError, match="name of a breaker"):
        broker.open_breaker("a" * 300, reason="x")


def test_a_breaker_that_is_opened_by_hand_stops_it_and_closing_lets_it_run(bench: Bench) -> None:
    ran: list[str] = []

    @bench.on(Note, name="venue", breaker=True)
    def venue(event: Note) -> None:
        ran.append(event.text)

    bench.start()
    bench.broker.open_breaker("venue", reason="x", reset_time_s=math.inf)
    wait_until(lambda: bench.broker.guards and bench.broker.guards.breakers())
    bench.logs.publish_many([note(n) for n in range(5)])
    wait_until(lambda: bench.broker.backlog("venue") == 5)
    assert ran == []
    bench.broker.close_breaker("venue", reason="x")
    bench.settled("venue")
    assert len(ran) == 5


@pytest.mark.parametrize(
    "options",
    [
        {"breaker": "yes"},
        {"breaker_key": ""},
        {"breaker_key": 5},
        {"breaker_key": "x" * 257},
        {"breaker": False, "breaker_key": "x"},
        {"limiter": 5},
        {"limiter": lambda event: None, "limiter_delay": 0},
    ],
)
def test_options_that_make_no_sense_are_refused_at_import(
    bench: Bench, options: dict[str, Any]
) -> None:
    with pytest.raises(errors.HandlerDefinitionError, match=r"breaker|limiter"):

        @bench.on(Note, name="wrong", **options)
        def wrong(event: Note) -> None: ...


def test_options_of_plain_actors_are_refused_too(bench: Bench) -> None:
    bench.broker.add_middleware(CircuitBreaker())
    with pytest.raises(errors.HandlerDefinitionError, match="breaker"):

        @dramatiq.actor(broker=bench.broker, breaker="yes")
        def wrong() -> None: ...


def test_a_breaker_makes_sense_or_is_refused() -> None:
    for wrong in ({"failure_threshold": 0}, {"reset_time_s": 0}, {"reset_time_s": math.inf}):
        with pytest.raises(ValueError, match="use"):
            Breaker(**wrong)
    with pytest.raises(TypeError, match="counts"):
        Breaker(counts=OSError)  # type: ignore[arg-type]


def test_too_many_breakers_are_not_made(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streamatiq.broker.guard_scripts.MAX_BREAKERS", 2)

    @bench.on(Note, name="many", breaker_key=lambda event: event.text, max_retries=0)
    def many(event: Note) -> None:
        raise OSError

    bench.start(threads=1)
    bench.logs.publish_many([note(n) for n in range(4)])
    bench.settled("many")
    assert len(states(bench)) == 2
    assert caplog.text.count("is one too many") == 1
