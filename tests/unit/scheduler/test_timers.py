"""The timer of APScheduler, as we use it; the server's clock."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator

import pytest
from tests.support import wait_until

from streamatiq.scheduler.timers import ServerClock, Timers


@pytest.fixture
def timers() -> Iterator[Timers]:
    made = Timers(ServerClock(), threads=2)
    yield made
    made.close(wait=True)


def now_ms() -> int:
    return int(time.time() * 1000)


def test_the_last_wish_holds_and_each_fires_once(timers: Timers) -> None:
    fired: queue.Queue[tuple[str, int]] = queue.Queue()
    term = timers.begin()
    term.fire = lambda name: fired.put((name, now_ms()))
    due = now_ms() + 80
    term.wake("a", due + 3_600_000)
    term.wake("a", due)
    term.wake("b", 0)
    term.wake("c", due)
    term.forget("c")
    term.forget("never wished")
    assert fired.get(timeout=5)[0] == "b"
    name, at = fired.get(timeout=5)
    assert name == "a"
    assert due <= at < due + 2_000
    assert fired.empty()


def test_what_an_earlier_term_wishes_is_not_heard(timers: Timers) -> None:
    fired: queue.Queue[str] = queue.Queue()
    old = timers.begin()
    old.fire = lambda name: fired.put(f"old {name}")
    old.wake("dropped", now_ms() + 50)
    new = timers.begin()
    new.fire = lambda name: fired.put(f"new {name}")
    new.wake("a", now_ms() + 100)
    old.wake("a", now_ms() + 3_600_000)
    old.forget("a")
    old.wake("b", 0)
    assert fired.get(timeout=5) == "new a"
    assert fired.empty()
    new.wake("a", now_ms() + 50)
    timers.end()
    new.wake("b", 0)
    again = timers.begin()
    again.fire = lambda name: fired.put(f"again {name}")
    again.wake("a", now_ms() + 150)
    assert fired.get(timeout=5) == "again a"
    assert fired.empty()


def test_a_wish_that_is_made_while_it_fires_is_kept(timers: Timers) -> None:
    """As `Runner.fire` does it, a thousand times."""
    times = iter(range(1000))
    ended = []
    term = timers.begin()

    def fire(name: str) -> None:
        if next(times, None) is None:
            ended.append(name)
        else:
            term.wake(name, 0)

    term.fire = fire
    term.wake("a", 0)
    wait_until(lambda: ended, 15)
    assert timers.is_alive


def test_the_servers_clock() -> None:
    local = 1_000_000.0
    clock = ServerClock(lambda: local)
    assert clock.now_ms() == 1_000_000
    assert clock.set(1_005_000) is True
    assert clock.now_ms() == 1_005_000
    assert clock.set(1_005_400) is False
    # What the server's clock shows at 1,006,400 it shows when ours shows 1,001,000.
    assert clock.local(1_006_400).timestamp() == pytest.approx(1001.0)
    local += 10
    assert clock.now_ms() == 1_005_410
